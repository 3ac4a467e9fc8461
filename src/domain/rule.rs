//! Record rules: which domain, app or stream gets which template.

use serde::{Deserialize, Serialize};

use crate::units::{StreamKey, TemplateId, WallTime};

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

/// How exactly a rule names a stream; the smaller one wins. The order is the vendor's: a named stream beats a named app, a named domain beats none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RuleRank {
    any_domain: bool,
    any_stream: bool,
    any_app: bool,
}

impl RecordRule {
    /// How exactly this rule names the stream; `None` if it does not apply to it. The domain is compared without case, app and stream exactly.
    pub fn rank(&self, key: &StreamKey) -> Option<RuleRank> {
        let any_stream = self.stream.is_empty();
        let any_app = self.app.is_empty();
        let any_domain = self.domain.is_empty();
        let applies = (any_stream || *self.stream == *key.stream)
            && (any_app || *self.app == *key.app)
            && (any_domain || self.domain.eq_ignore_ascii_case(&key.domain));
        applies.then_some(RuleRank { any_domain, any_stream, any_app })
    }
}
