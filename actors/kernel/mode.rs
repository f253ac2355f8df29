//! How an agent works: what it is told to do, and what it may call.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tool::{Category, EffectClass, ToolSpec};

/// How an agent works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Think and plan; change nothing.
    Plan,
    /// Change and test.
    #[default]
    Build,
    /// Read and criticise; change nothing.
    Review,
    /// Reproduce and fix.
    Debug,
    /// Map the code; change nothing.
    Explore,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Plan, Self::Build, Self::Review, Self::Debug, Self::Explore];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Build => "build",
            Self::Review => "review",
            Self::Debug => "debug",
            Self::Explore => "explore",
        }
    }

    /// Whether the tool may be called. A mode that changes nothing has no shell: what a command does cannot be known.
    pub fn permits(self, tool: &ToolSpec) -> bool {
        match self {
            Self::Build | Self::Debug => true,
            Self::Plan | Self::Review | Self::Explore => {
                matches!(tool.effect, EffectClass::Read | EffectClass::Keyed) && tool.category != Category::Bash
            }
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| format!("there is no mode {text:?}; there are {}", names()))
    }
}
