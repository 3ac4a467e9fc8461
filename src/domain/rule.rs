//! Record rules: which domain, app or stream gets which template.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::units::{StreamKey, TemplateId, WallTime};

/// Also a callback rule, which never names a stream. The triple is the key; empty text is a wildcard for `app` and `stream` (and, for the first-run rule only, for `domain`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordRule {
    pub domain: String,
    pub app: String,
    pub stream: String,
    pub template_id: TemplateId,
    pub create_time: WallTime,
    pub update_time: WallTime,
}

/// All rules in the order of their creation, and by what they name. Immutable: made anew with every snapshot.
#[derive(Clone, Debug, Default)]
pub struct RuleTable {
    rules: Vec<RecordRule>,
    /// Domains in lower case; empty text is what the rule leaves open.
    by_key: HashMap<StreamKey, TemplateId>,
    domains: HashSet<Arc<str>>,
}

impl From<Vec<RecordRule>> for RuleTable {
    fn from(rules: Vec<RecordRule>) -> Self {
        let mut table = Self::default();
        for rule in &rules {
            let key = StreamKey::new(&rule.domain.to_ascii_lowercase(), &rule.app, &rule.stream);
            table.domains.insert(Arc::clone(&key.domain));
            // The triple is unique in the catalog; of two the first one counts.
            table.by_key.entry(key).or_insert(rule.template_id);
        }
        Self { rules, ..table }
    }
}

impl Deref for RuleTable {
    type Target = [RecordRule];

    fn deref(&self) -> &[RecordRule] {
        &self.rules
    }
}

impl RuleTable {
    /// The template of the rule that names the stream most exactly. A named domain beats none, then a named stream beats a named app: this is the vendor's
    /// order. Eight look-ups, however many rules there are.
    pub fn find(&self, key: &StreamKey) -> Option<TemplateId> {
        let any: Arc<str> = Arc::from("");
        let domain: Arc<str> = key.domain.to_ascii_lowercase().into();
        for domain in [&domain, &any] {
            for stream in [&key.stream, &any] {
                for app in [&key.app, &any] {
                    let named = StreamKey { domain: Arc::clone(domain), app: Arc::clone(app), stream: Arc::clone(stream) };
                    if let Some(template) = self.by_key.get(&named) {
                        return Some(*template);
                    }
                }
            }
        }
        None
    }

    /// Does a rule name this domain (in lower case)?
    pub fn has_domain(&self, domain: &str) -> bool {
        self.domains.contains(domain)
    }
}
