//! What a caller may ask for, and what a verb answers: the nouns of the registry's interface.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::store::Stored;

/// Who asks and how; handed to admission. In-process controllers use `Caller::system("deployment-controller")`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub user: String,
    pub groups: Vec<String>,
    /// Tells two users of one name apart, where somebody knows it (service accounts).
    pub uid: Option<String>,
    /// What else is known, as a token's pod.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Caller {
    /// A component of the control plane itself.
    pub fn system(component: &str) -> Self {
        Self {
            user: format!("system:{component}"),
            groups: vec!["system:masters".to_owned()],
            ..Self::default()
        }
    }

    pub fn is_member(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// Whoever may do everything, whatever roles say.
    pub fn is_master(&self) -> bool {
        self.is_member("system:masters")
    }
}

#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
    /// The keys that occurred twice in the body's text (`decode::parse_json` finds them); they are
    /// refused or warned about together with the unknown fields.
    pub duplicate_fields: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    #[default]
    Warn,
    Strict,
    Ignore,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub dry_run: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<Propagation>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub limit: Option<usize>,
    pub continue_token: Option<String>,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<String>,
}

pub struct List {
    pub revision: u64,
    pub items: Vec<Arc<Stored>>,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    pub resource_version: Option<String>,
    pub resource_version_match: Option<String>,
    pub send_initial_events: bool,
    pub allow_bookmarks: bool,
}

/// What a write answers: the object, the warnings for the client (`Warning: 299`), and whether it was created.
pub struct Written {
    pub object: Arc<Stored>,
    pub warnings: Vec<String>,
    pub created: bool,
}

/// What a deletion answers: gone at once, or waiting (finalizers, grace).
pub enum Deleted {
    Gone(Arc<Stored>),
    Pending(Arc<Stored>),
}
