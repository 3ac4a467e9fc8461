//! What is to be recorded, as one immutable snapshot that the ingest cores read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::units::{Format, StreamKey, TemplateId};

use super::{Admission, RecordTask, RecordTemplate, RuleTable};

/// Templates, rules and unfinished tasks at one moment. Replaced as a whole; `version` grows with every replacement.
#[derive(Debug, Default)]
pub struct Policy {
    pub version: u64,
    pub templates: HashMap<TemplateId, Arc<RecordTemplate>>,
    pub rules: RuleTable,
    /// Tasks whose window has not ended (stopped ones included), by stream. Domains are in lower case; tasks for every domain have an empty one.
    pub tasks: HashMap<StreamKey, Vec<Arc<RecordTask>>>,
    /// What a task without a (known) template records.
    pub task_default: Option<Arc<RecordTemplate>>,
    /// Who may publish.
    pub admission: Admission,
}

impl Policy {
    /// The template of the rule that names the stream most exactly: domain, app and stream; domain and stream; domain and app; domain; and last the
    /// first-run rule, which names no domain. `None`: no rule applies.
    ///
    /// A template without an enabled format is an answer like any other: this is how recording is switched off for a stream.
    ///
    /// Called once per publication, never per message.
    pub fn rule_for(&self, key: &StreamKey) -> Option<Arc<RecordTemplate>> {
        self.templates.get(&self.rules.find(key)?).cloned()
    }

    /// The tasks of a stream, stopped ones included; which of them record now is [`TaskScheduler`](super::task::TaskScheduler)'s business.
    pub fn tasks_for(&self, key: &StreamKey) -> &[Arc<RecordTask>] {
        let found = if key.domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.tasks.get(&StreamKey { domain: key.domain.to_ascii_lowercase().into(), ..key.clone() })
        } else {
            self.tasks.get(key)
        };
        found.map_or(&[], Vec::as_slice)
    }

    /// The tasks of the older calls for this app and stream on any domain, as [`tasks_for`](Self::tasks_for).
    pub fn tasks_for_any_domain(&self, key: &StreamKey) -> &[Arc<RecordTask>] {
        self.tasks.get(&StreamKey { domain: "".into(), ..key.clone() }).map_or(&[], Vec::as_slice)
    }

    /// What a task records: its own format if it brings one. Id 0 and an id that does not exist (any more) mean the default task template; without one, the product's default.
    pub fn task_template(&self, task: &RecordTask) -> Arc<RecordTemplate> {
        if let Some(own) = task.own {
            return Arc::new(own.template());
        }
        let named = if task.template_id == 0 { None } else { self.templates.get(&TemplateId(task.template_id)) };
        named.or(self.task_default.as_ref()).cloned().unwrap_or_else(|| Arc::new(default_task_template(Format::Flv)))
    }
}

/// The default template of tasks: one format, files of 1800 s, kept for ever. Its id is 0, which no stored template has.
pub fn default_task_template(format: Format) -> RecordTemplate {
    let mut template = RecordTemplate::empty(TemplateId(0), "task-default");
    template.param_mut(format).enable = true;
    template
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RecordRule;
    use crate::domain::task::OwnFormat;
    use crate::units::{TaskId, WallTime};
    use proptest::prelude::*;

    fn policy(rules: &[(&str, &str, &str)]) -> Policy {
        let mut policy = Policy::default();
        let mut table = Vec::new();
        for (index, (domain, app, stream)) in rules.iter().enumerate() {
            let id = TemplateId(1001 + index as u64);
            policy.templates.insert(id, Arc::new(RecordTemplate::empty(id, "t")));
            table.push(RecordRule {
                domain: (*domain).to_owned(),
                app: (*app).to_owned(),
                stream: (*stream).to_owned(),
                template_id: id,
                create_time: WallTime::default(),
                update_time: WallTime::default(),
            });
        }
        policy.rules = table.into();
        policy
    }

    /// All ranks in the documented order, and rules of other streams that must never match.
    const RANKS: [(&str, &str, &str); 5] = [
        ("push.example.com", "live", "cam"),
        ("push.example.com", "", "cam"),
        ("push.example.com", "live", ""),
        ("push.example.com", "", ""),
        ("", "", ""),
    ];
    const OTHERS: [(&str, &str, &str); 5] = [
        ("other.example.com", "", ""),
        ("push.example.com", "Live", ""),
        ("push.example.com", "", "Cam"),
        ("push.example.com", "live", "cam2"),
        ("example.com", "live", "cam"),
    ];

    #[test]
    fn the_most_exact_rule_wins() {
        let key = StreamKey::new("push.example.com", "live", "cam");
        // Every subset of the ranks, forwards and backwards: the first present one wins wherever it stands.
        for subset in 0..1_u32 << RANKS.len() {
            let mut rules: Vec<_> = (0..RANKS.len()).filter(|bit| subset & 1 << bit != 0).map(|bit| RANKS[bit]).chain(OTHERS).collect();
            let expected = RANKS.iter().find(|rank| rules.contains(rank)).copied();
            for _ in 0..2 {
                let policy = policy(&rules);
                let found = policy.rule_for(&key).map(|template| rules[(template.id.0 - 1001) as usize]);
                assert_eq!(found, expected, "rules {rules:?}");
                rules.reverse();
            }
        }
    }

    #[test]
    fn app_and_stream_are_case_sensitive_the_domain_is_not() {
        let policy = policy(&[("push.example.com", "live", "cam")]);
        for (domain, app, stream, matches) in [
            ("push.example.com", "live", "cam", true),
            ("PUSH.Example.com", "live", "cam", true),
            ("push.example.com", "LIVE", "cam", false),
            ("push.example.com", "live", "CAM", false),
            ("push.example.com", "", "cam", false),
        ] {
            assert_eq!(policy.rule_for(&StreamKey::new(domain, app, stream)).is_some(), matches, "{domain}/{app}/{stream}");
        }
    }

    #[test]
    fn a_template_with_everything_off_hides_a_wider_rule() {
        let mut policy = policy(&[("push.example.com", "", ""), ("push.example.com", "", "quiet")]);
        Arc::make_mut(policy.templates.get_mut(&TemplateId(1001)).expect("entered above")).mp4.enable = true;
        assert_eq!(policy.rule_for(&StreamKey::new("push.example.com", "live", "cam")).expect("domain rule").enabled().count(), 1);
        assert_eq!(policy.rule_for(&StreamKey::new("push.example.com", "live", "quiet")).expect("stream rule").enabled().count(), 0);
    }

    #[test]
    fn no_rule_no_template() {
        assert!(policy(&OTHERS).rule_for(&StreamKey::new("push.example.com", "live", "cam")).is_none());
        assert!(Policy::default().rule_for(&StreamKey::new("", "", "")).is_none());
    }

    #[test]
    fn tasks_and_their_templates() {
        let mut policy = policy(&[("push.example.com", "", "")]);
        let task = |template_id| RecordTask {
            id: TaskId("t".into()),
            key: StreamKey::new("push.example.com", "live", "cam"),
            start: WallTime::default(),
            end: WallTime::from_unix_seconds(1),
            template_id,
            stream_type: 0,
            extension: String::new(),
            create_time: WallTime::default(),
            stopped: None,
            own: None,
        };
        policy.tasks.insert(task(0).key, vec![Arc::new(task(0))]);
        assert_eq!(policy.tasks_for(&StreamKey::new("Push.Example.COM", "live", "cam")).len(), 1);
        assert!(policy.tasks_for(&StreamKey::new("push.example.com", "live", "Cam")).is_empty());

        assert_eq!(policy.task_template(&task(1001)).id, TemplateId(1001));
        let enabled = |policy: &Policy, id| policy.task_template(&task(id)).enabled().map(|(format, _)| format).collect::<Vec<_>>();
        for id in [0, 4711, u64::MAX] {
            assert_eq!(enabled(&policy, id), [Format::Flv], "id {id}");
        }
        policy.task_default = Some(Arc::new(default_task_template(Format::Hls)));
        for id in [0, 4711] {
            assert_eq!(enabled(&policy, id), [Format::Hls], "id {id}");
        }
        let own = OwnFormat { format: Format::Mp4, audio_only: true, record_interval_s: 3600, storage_time_s: 60 };
        let template = policy.task_template(&RecordTask { own: Some(own), ..task(1001) });
        let (format, param) = template.enabled().next().expect("one format");
        assert_eq!((format, param.record_interval_s, param.storage_time_s, template.audio_only), (Format::Mp4, 3600, 60, true));
        assert_eq!(template.enabled().count(), 1);
        assert!(policy.tasks_for_any_domain(&task(0).key).is_empty());
        policy.tasks.insert(StreamKey::new("", "live", "cam"), vec![Arc::new(task(0))]);
        assert_eq!(policy.tasks_for_any_domain(&StreamKey::new("other.example.com", "live", "cam")).len(), 1);
        assert!(policy.tasks_for_any_domain(&StreamKey::new("push.example.com", "Live", "cam")).is_empty());
        // A damaged table with a template 0 must not change what "no template" means.
        policy.templates.insert(TemplateId(0), Arc::new(default_task_template(Format::Mp3)));
        assert_eq!(enabled(&policy, 0), [Format::Hls]);
    }

    proptest! {
        /// Against the documented table, read out loud: the first rank that has a rule decides, whatever else there is and in whatever order.
        #[test]
        fn any_set_of_rules_decides_by_rank(
            picks in proptest::collection::vec((0..2_usize, 0..4_usize, 0..4_usize), 0..24),
            first_run in any::<bool>(),
            (domain, app, stream) in (0..2_usize, 1..4_usize, 1..4_usize),
            reversed in any::<bool>(),
        ) {
            const DOMAINS: [&str; 2] = ["a.example", "sub.a.example"];
            const NAMES: [&str; 4] = ["", "live", "Live", "live2"];
            let mut rules: Vec<_> = picks.iter().map(|(domain, app, stream)| (DOMAINS[*domain], NAMES[*app], NAMES[*stream])).collect();
            rules.extend(first_run.then_some(("", "", "")));
            rules.sort_unstable();
            rules.dedup();
            if reversed {
                rules.reverse();
            }
            let policy = policy(&rules);
            let (domain, app, stream) = (DOMAINS[domain], NAMES[app], NAMES[stream]);
            let ranks = [(domain, app, stream), (domain, "", stream), (domain, app, ""), (domain, "", ""), ("", "", "")];
            let expected = ranks.into_iter().find(|rank| rules.contains(rank));
            for spelled in [domain.to_owned(), domain.to_ascii_uppercase()] {
                let found = policy.rule_for(&StreamKey::new(&spelled, app, stream)).map(|template| rules[(template.id.0 - 1001) as usize]);
                prop_assert_eq!(found, expected);
            }
        }
    }
}
