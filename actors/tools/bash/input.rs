//! `bash_input`: its arguments.

use lakitu_kernel::limits::INPUT_BYTES_MAX;
use lakitu_kernel::tool::{Arguments, Category, EffectClass, ToolSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::job::JobId;

/// `bash_input`.
///
/// Keyed: the keeper takes one call's text once, however often it is asked to, and says of an ended job which texts it
/// had taken.
pub const BASH_INPUT: ToolSpec =
    ToolSpec::of::<InputArgs>("bash_input", include_str!("input.md"), EffectClass::Keyed, Category::Bash);

/// Arguments of `bash_input`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputArgs {
    /// The job, such as `job_12`.
    pub job: JobId,
    /// The text, exactly; a line ends with a newline.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// End the input behind it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub eof: bool,
}

impl Arguments for InputArgs {
    const ALIASES: &'static [(&'static str, &'static str)] = &[
        ("job_id", "job"),
        ("id", "job"),
        ("shell_id", "job"),
        ("bash_id", "job"),
        ("session_id", "job"),
        ("chars", "text"),
        ("input", "text"),
    ];

    fn check(&self) -> Result<(), String> {
        let length = self.text.len();
        if length == 0 && !self.eof {
            return Err("text is empty; give some, or eof to end the input".to_owned());
        }
        if length > INPUT_BYTES_MAX {
            return Err(format!("text has {length} bytes; at most {INPUT_BYTES_MAX} can be given at once"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn arguments_are_made_canonical_or_refused_with_what_to_write_instead() {
        let rows = [
            r#"{"job":"job_12","text":"y\n"}"#,
            r#"{"session_id":12,"chars":"y","eof":"true"}"#,
            r#"{"job":12,"eof":true}"#,
            r#"{"job":12}"#,
            r#"{"job":12,"text":"","eof":false}"#,
            r#"{"text":"y\n"}"#,
        ];
        let told: Vec<_> = rows
            .iter()
            .map(|row| BASH_INPUT.check(row).map_or_else(|error| error.to_string(), |value| value.to_string()))
            .collect();
        expect![[r#"
            {"job":"job_12","text":"y\n"}
            {"eof":true,"job":"job_12","text":"y"}
            {"eof":true,"job":"job_12"}
            INVALID_ARGUMENTS: text is empty; give some, or eof to end the input
            INVALID_ARGUMENTS: text is empty; give some, or eof to end the input
            INVALID_ARGUMENTS: missing field `job`"#]]
        .assert_eq(&told.join("\n"));
    }

    #[test]
    fn the_longest_text_is_taken_and_one_byte_more_is_not() {
        assert_eq!(INPUT_BYTES_MAX, lakitu_keeper::protocol::MAX_INPUT, "the keeper takes what the tool takes");
        let text = "x".repeat(INPUT_BYTES_MAX);
        let check = |text: &str| BASH_INPUT.check(&serde_json::json!({ "job": 1, "text": text }).to_string());
        assert!(check(&text).is_ok());
        assert!(check(&(text + "x")).unwrap_err().to_string().contains("65537 bytes"));
    }
}
