//! The name of a job: `job_12` is the call whose intent stands at 12.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A job's name. Never used twice within a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "job_{}", self.0)
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Named)
    }
}

struct Named;

impl Visitor<'_> for Named {
    type Value = JobId;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a job's name such as \"job_12\", as bash and bash_list give it")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<JobId, E> {
        Ok(JobId(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<JobId, E> {
        let digits = text.trim().strip_prefix("job_").unwrap_or(text.trim());
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = if plain { digits.parse().ok() } else { None };
        number
            .map(JobId)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(&text.chars().take(64).collect::<String>()), &self))
    }
}

impl JsonSchema for JobId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "JobId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_with_and_without_its_prefix() {
        for text in [r#""job_12""#, r#""12""#, r#"" job_12 ""#, "12"] {
            assert_eq!(serde_json::from_str::<JobId>(text).unwrap(), JobId(12), "{text}");
        }
        for text in [
            r#""""#,
            r#""job_""#,
            r#""job_-1""#,
            r#""+1""#,
            r#""../1""#,
            "-1",
            "1.5",
            "null",
            r#""99999999999999999999""#,
        ] {
            assert!(serde_json::from_str::<JobId>(text).is_err(), "{text}");
        }
        assert_eq!(serde_json::to_string(&JobId(12)).unwrap(), r#""job_12""#);
    }
}
