//! One call: address, signature, answer.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{ClientError, Connection, config};
use crate::config::{Config, Role};
use crate::control::auth::sign_tc3;
use crate::control::protocol::Version;

/// A call that waits for events takes 5 s, a clip of a large file longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer: 5000 recordings are some 15 MB.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// Who calls.
enum Proof {
    Nobody,
    Key { secret_id: String, secret_key: String },
    Token(String),
}

/// A running appliance.
pub struct Appliance {
    /// Without a slash at the end.
    server: String,
    proof: Proof,
    agent: ureq::Agent,
}

impl Appliance {
    /// Finds out where it is and how to call it: what was named, then the environment, then the configuration.
    ///
    /// # Errors
    /// If the configuration cannot be read or half of a credential is missing.
    pub fn find(connection: &Connection) -> Result<Self, ClientError> {
        let config = config(connection)?;
        let server = connection.server.clone().or_else(|| config.as_ref().map(server_of));
        let server = server.unwrap_or_else(|| server_of(&Config::default()));
        let server = if server.contains("://") { server } else { format!("http://{server}") };
        let proof = match (&connection.secret_id, &connection.secret_key, &connection.token) {
            (Some(id), Some(key), _) => Proof::Key { secret_id: id.clone(), secret_key: key.clone() },
            (Some(id), None, _) => match config.as_ref().and_then(|config| key_of(config, |known| known == id)) {
                Some(proof) => proof,
                None => {
                    return Err(ClientError::Usage(format!(
                        "the key of {id} is missing: set CAPSTAN_SECRET_KEY, or name a configuration that has it"
                    )));
                }
            },
            (None, _, Some(token)) => Proof::Token(token.clone()),
            // A key of one appliance is not shown to another.
            (None, _, None) if connection.server.is_some() && connection.config.is_none() => Proof::Nobody,
            (None, _, None) => config.as_ref().and_then(|config| key_of(config, |_| true).or_else(|| token_of(config))).unwrap_or(Proof::Nobody),
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(CALL_TIMEOUT))
            .user_agent(concat!("capstan/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { server: server.trim_end_matches('/').to_owned(), proof, agent })
    }

    /// Calls an action; `version` may be left out, names are unique.
    ///
    /// # Errors
    /// If it cannot be reached, or refuses.
    pub fn call(&self, action: &str, version: Option<Version>, parameters: &Map<String, Value>) -> Result<Map<String, Value>, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable { server: self.server.clone(), reason };
        let body = serde_json::to_vec(parameters).map_err(|error| ClientError::Usage(error.to_string()))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let mut request = self.agent.post(format!("{}/", self.server)).header("Content-Type", "application/json").header("X-TC-Action", action);
        if let Some(version) = version {
            request = request.header("X-TC-Version", version.name());
        }
        request = match &self.proof {
            Proof::Nobody => request,
            Proof::Token(token) => request.header("Authorization", format!("Bearer {token}")),
            Proof::Key { secret_id, secret_key } => {
                let host = self.server.split_once("://").map_or(self.server.as_str(), |(_, host)| host);
                let host = host.split('/').next().unwrap_or(host);
                let header = sign_tc3(secret_id, secret_key, host, &body, now);
                request.header("Host", host).header("X-TC-Timestamp", now.to_string()).header("Authorization", header)
            }
        };
        let mut answer = request.send(&body[..]).map_err(|error| unreachable(plain(&error)))?;
        let status = answer.status().as_u16();
        let mut text = Vec::new();
        answer.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut text).map_err(|error| unreachable(plain(&error)))?;
        let no_api = || ClientError::NoApi { server: self.server.clone(), status };
        let mut answer: Map<String, Value> = serde_json::from_slice(&text).map_err(|_| no_api())?;
        let Some(Value::Object(response)) = answer.remove("Response") else { return Err(no_api()) };
        match response.get("Error") {
            None => Ok(response),
            Some(error) => {
                let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
                Err(ClientError::Refused { code: text("Code"), message: text("Message").trim_end_matches('.').to_owned() })
            }
        }
    }
}

/// What kept a request from being answered, without what only programmers want to know.
fn plain(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("io: ").unwrap_or(&text);
    text.split_once(" (os error").map_or(text, |(words, _)| words).to_owned()
}

/// The address at which this machine reaches an appliance with these settings.
fn server_of(config: &Config) -> String {
    let listen = config.http.listen;
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

/// A key of the configuration: one with all rights before others.
fn key_of(config: &Config, is_meant: impl Fn(&str) -> bool) -> Option<Proof> {
    let meant = || config.api.credentials.iter().filter(|credential| is_meant(&credential.secret_id));
    let credential = meant().find(|credential| credential.role == Role::Admin).or_else(|| meant().next())?;
    Some(Proof::Key { secret_id: credential.secret_id.clone(), secret_key: credential.secret_key.expose().to_owned() })
}

fn token_of(config: &Config) -> Option<Proof> {
    let tokens = &config.api.bearer_tokens;
    let token = tokens.iter().find(|token| token.role == Role::Admin).or_else(|| tokens.first())?;
    Some(Proof::Token(token.token.expose().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_appliance_of_a_configuration() {
        for (listen, server) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:81", "http://[::1]:81"),
            ("192.0.2.1:9", "http://192.0.2.1:9"),
        ] {
            let mut config = Config::default();
            config.http.listen = listen.parse().unwrap();
            assert_eq!(server_of(&config), server);
        }
    }

    #[test]
    fn a_key_with_all_rights_comes_first() {
        let block =
            |name: &str, role: &str| format!("[[api.credentials]]\nsecret_id = \"{name}\"\nsecret_key = \"0123456789abcdef\"\nrole = \"{role}\"\n");
        let config = Config::parse(&(block("a", "reader") + &block("b", "admin"))).unwrap();
        assert!(matches!(key_of(&config, |_| true), Some(Proof::Key { secret_id, .. }) if secret_id == "b"));
        assert!(matches!(key_of(&config, |id| id == "a"), Some(Proof::Key { secret_id, .. }) if secret_id == "a"));
        assert!(key_of(&Config::default(), |_| true).is_none() && token_of(&Config::default()).is_none());
    }
}
