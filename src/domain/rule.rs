//! Record rules: which domain, app or stream gets which template.

use serde::{Deserialize, Serialize};

use crate::units::{TemplateId, WallTime};

/// The triple is the key; empty text is a wildcard for `app` and `stream` (and, for the first-run rule only, for `domain`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordRule {
    pub domain: String,
    pub app: String,
    pub stream: String,
    pub template_id: TemplateId,
    pub create_time: WallTime,
    pub update_time: WallTime,
}
