//! Who may call, what, and how often: the keys of the configuration, their roles, and one token bucket for each key and action.
//!
//! Replaced as a whole when the configuration is read anew; a call keeps the one it began with.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::errors::{ApiError, refuse};
use crate::config::{ApiConfig, BearerToken, Credential, Role};

/// A bucket holds this many seconds of the rate.
const BURST_SECONDS: f64 = 2.0;

/// Answers that hold keys: whoever reads them can publish, or read what is encrypted.
const KEY_ACTIONS: [&str; 5] = [
    "DescribeLivePushAuthKey",
    "DescribeDefaultDistributionConfig",
    "DescribeDrmDataKey",
    "DescribeLiveCallbackTemplate",
    "DescribeLiveCallbackTemplates",
];

/// The part of the configuration that says who may call.
#[derive(Debug)]
pub struct Access {
    pub credentials: Vec<Credential>,
    pub tokens: Vec<BearerToken>,
    /// Loopback needs no signature while there are no keys.
    pub unsigned_loopback: bool,
    /// Of one caller and action; 0: no limit.
    pub requests_per_second: u64,
    /// Bounded by the configured callers times the actions there are.
    buckets: Mutex<HashMap<(Caller, &'static str), Bucket>>,
}

/// Whose call it is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Caller {
    /// Accepted without a check because it came over loopback.
    Loopback,
    Key {
        secret_id: String,
        role: Role,
    },
    Token {
        name: String,
        role: Role,
    },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Loopback => f.write_str("loopback"),
            Caller::Key { secret_id, .. } => write!(f, "key {secret_id}"),
            Caller::Token { name, .. } => write!(f, "token {name}"),
        }
    }
}

impl Caller {
    pub fn role(&self) -> Role {
        match self {
            Caller::Loopback => Role::Admin,
            Caller::Key { role, .. } | Caller::Token { role, .. } => *role,
        }
    }

    /// True if calls that delete are this caller's, whatever the action is named.
    pub fn may_delete(&self) -> bool {
        self.role() == Role::Admin
    }

    /// # Errors
    /// `AuthFailure.UnauthorizedOperation` if the role does not allow the action.
    pub fn authorize(&self, action: &str) -> Result<(), ApiError> {
        let (may, role) = match self.role() {
            Role::Admin => return Ok(()),
            Role::Operator => (!action.starts_with("Delete"), "operator"),
            Role::Reader => ((action.starts_with("Describe") || action.starts_with("Search")) && !KEY_ACTIONS.contains(&action), "reader"),
        };
        if may {
            return Ok(());
        }
        Err(refuse("AuthFailure.UnauthorizedOperation", format!("The role {role} of this key does not allow {action}.")))
    }
}

#[derive(Debug)]
struct Bucket {
    level: f64,
    at: Instant,
}

impl Access {
    pub fn new(config: &ApiConfig) -> Self {
        Self {
            credentials: config.credentials.clone(),
            tokens: config.bearer_tokens.clone(),
            unsigned_loopback: config.unsigned_loopback,
            requests_per_second: config.requests_per_second,
            buckets: Mutex::default(),
        }
    }

    /// Nobody has a key yet.
    pub fn has_no_keys(&self) -> bool {
        self.credentials.is_empty() && self.tokens.is_empty()
    }

    /// Counts a call. Unsigned calls have no key to be counted by.
    ///
    /// # Errors
    /// `RequestLimitExceeded`.
    pub fn admit(&self, caller: &Caller, action: &'static str, now: Instant) -> Result<(), ApiError> {
        if self.requests_per_second == 0 || *caller == Caller::Loopback {
            return Ok(());
        }
        let rate = self.requests_per_second as f64;
        let full = rate * BURST_SECONDS;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry((caller.clone(), action)).or_insert(Bucket { level: full, at: now });
        bucket.level = (bucket.level + now.saturating_duration_since(bucket.at).as_secs_f64() * rate).min(full);
        bucket.at = now;
        if bucket.level < 1.0 {
            let message = format!("More than {} calls a second of {action}; wait a moment.", self.requests_per_second);
            return Err(refuse("RequestLimitExceeded", message));
        }
        bucket.level -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Secret;

    pub fn key(secret_id: &str, secret_key: &str, role: Role) -> Credential {
        Credential { secret_id: secret_id.to_owned(), secret_key: Secret::new(secret_key), role }
    }

    pub fn token(name: &str, token: &str, role: Role) -> BearerToken {
        BearerToken { name: name.to_owned(), token: Secret::new(token), role }
    }

    pub fn access(credentials: Vec<Credential>, bearer_tokens: Vec<BearerToken>) -> Access {
        Access::new(&ApiConfig { credentials, bearer_tokens, ..ApiConfig::default() })
    }

    #[test]
    fn what_each_role_may() {
        let caller = |role| Caller::Key { secret_id: "a".to_owned(), role };
        for (action, operator, reader) in [
            ("DescribeLiveRecordRules", true, true),
            ("SearchMedia", true, true),
            ("CreateRecordTask", true, false),
            ("ModifyLivePushAuthKey", true, false),
            ("StopRecordTask", true, false),
            ("DropLiveStream", true, false),
            ("PullEvents", true, false),
            ("DeleteMedia", false, false),
            ("DeleteLiveDomain", false, false),
            ("DescribeLivePushAuthKey", true, false),
            ("DescribeDrmDataKey", true, false),
        ] {
            for (role, may) in [(Role::Admin, true), (Role::Operator, operator), (Role::Reader, reader)] {
                assert_eq!(caller(role).authorize(action).is_ok(), may, "{action} {role:?}");
            }
            assert!(Caller::Loopback.authorize(action).is_ok());
        }
        assert_eq!(caller(Role::Reader).authorize("DropLiveStream").unwrap_err().code, "AuthFailure.UnauthorizedOperation");
        assert!(Caller::Loopback.may_delete() && caller(Role::Admin).may_delete());
        assert!(!caller(Role::Operator).may_delete() && !caller(Role::Reader).may_delete());
    }

    #[test]
    fn a_bucket_for_each_caller_and_action() {
        let mut access = access(Vec::new(), Vec::new());
        access.requests_per_second = 10;
        let start = Instant::now();
        let caller = |name: &str| Caller::Token { name: name.to_owned(), role: Role::Admin };
        let admitted = |caller: &Caller, action, millis, count: usize| {
            let now = start + Duration::from_millis(millis);
            (0..count).filter(|_| access.admit(caller, action, now).is_ok()).count()
        };
        let (first, second) = (caller("first"), caller("second"));
        assert_eq!(admitted(&first, "SearchMedia", 0, 50), 20);
        assert_eq!(access.admit(&first, "SearchMedia", start).unwrap_err().code, "RequestLimitExceeded");
        assert_eq!(admitted(&first, "DeleteMedia", 0, 50), 20);
        assert_eq!(admitted(&second, "SearchMedia", 0, 50), 20);
        assert_eq!(admitted(&first, "SearchMedia", 500, 50), 5);
        // A bucket does not fill beyond its burst, and a clock that stands still fills nothing.
        assert_eq!(admitted(&first, "SearchMedia", 60_000, 50), 20);
        assert_eq!(admitted(&first, "SearchMedia", 60_000, 50), 0);
        assert_eq!(admitted(&Caller::Loopback, "SearchMedia", 0, 5_000), 5_000);
        access.requests_per_second = 0;
        assert!((0..5_000).all(|_| access.admit(&first, "SearchMedia", start).is_ok()));
    }
}
