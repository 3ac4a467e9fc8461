//! The actions: one table per family of calls, one typed request and one handler per action.

pub mod adaptive_templates;
pub mod appliance;
pub mod apps;
pub mod callbacks;
pub mod classes;
pub mod clips;
pub mod definitions;
pub mod distribution;
pub mod domains;
pub mod events;
pub mod files;
pub mod flow_input;
mod known;
pub mod media_edit;
pub mod media_info;
pub mod older_tasks;
pub mod picture_templates;
pub mod player_configs;
pub mod procedures;
pub mod processing;
pub mod results;
pub mod rules;
pub mod stream_control;
pub mod stream_events;
pub mod streams;
pub mod tasks;
pub mod templates;
pub mod transcode_templates;
pub mod values;
pub mod vod_tasks;

use serde_json::Value;

use super::ControlContext;
use super::access::Caller;
use super::errors::{ApiError, refuse};
use super::params::Parameters;
use super::protocol::{Call, Reply, Version};
use super::tree::Fields;
use crate::catalog::CatalogError;
use crate::units::WallTime;

/// What a handler works with: the context, the one moment that counts for this call, and who makes it.
pub struct Scope<'a> {
    pub context: &'a ControlContext,
    pub now: WallTime,
    pub caller: &'a Caller,
    pub waiting: Waiting,
}

/// May a call that has nothing to tell wait until there is something?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Yes: its thread is its own.
    Allowed,
    /// No: its thread serves all.
    Not,
}

impl Scope<'_> {
    /// Puts a change of templates, rules or tasks into effect, before the answer leaves.
    pub fn refresh_policy(&self) -> Result<(), ApiError> {
        Ok(super::refresh_policy(self.context)?)
    }

    /// The application that `SubAppId` means; 0 is the main one, which may also be named by the appliance's AppId.
    ///
    /// # Errors
    /// `InvalidParameterValue.SubAppId`: unknown or destroyed.
    pub fn sub_app(&self, given: Option<u64>) -> Result<u64, ApiError> {
        let Some(id) = given.filter(|id| *id != 0 && *id != self.context.app_id) else { return Ok(0) };
        match self.context.catalog.sub_app(id) {
            Ok(app) => Ok(app.id),
            Err(CatalogError::NotFound) => Err(refuse("InvalidParameterValue.SubAppId", format!("There is no application {id}."))),
            Err(error) => Err(error.into()),
        }
    }
}

/// A line of the table.
pub struct Action {
    pub name: &'static str,
    pub version: Version,
    /// It waits for something to tell where [`Waiting`] allows it.
    pub waits: bool,
    pub run: fn(&Scope<'_>, Fields) -> Result<Reply, ApiError>,
}

/// An action from its name, its family and its handler; the handler's argument is the typed request.
macro_rules! action {
    ($name:literal, $version:ident, $handler:path) => {
        $crate::control::actions::Action {
            name: $name,
            version: $crate::control::protocol::Version::$version,
            waits: false,
            run: |scope, fields| $crate::control::actions::run(scope, fields, $handler),
        }
    };
}
pub(crate) use action;

/// As [`action`], for one that may wait for something to tell.
macro_rules! waiting_action {
    ($name:literal, $version:ident, $handler:path) => {
        $crate::control::actions::Action { waits: true, ..$crate::control::actions::action!($name, $version, $handler) }
    };
}
pub(crate) use waiting_action;

fn run<P: Parameters>(scope: &Scope<'_>, fields: Fields, handler: fn(&Scope<'_>, P) -> Result<Reply, ApiError>) -> Result<Reply, ApiError> {
    handler(scope, P::read_fields(fields, "")?)
}

const FAMILIES: &[&[Action]] = &[
    templates::ACTIONS,
    rules::ACTIONS,
    tasks::ACTIONS,
    older_tasks::ACTIONS,
    callbacks::ACTIONS,
    streams::ACTIONS,
    stream_control::ACTIONS,
    stream_events::ACTIONS,
    domains::ACTIONS,
    files::ACTIONS,
    media_edit::ACTIONS,
    apps::ACTIONS,
    classes::ACTIONS,
    events::ACTIONS,
    vod_tasks::ACTIONS,
    clips::ACTIONS,
    transcode_templates::ACTIONS,
    adaptive_templates::ACTIONS,
    picture_templates::ACTIONS,
    procedures::ACTIONS,
    player_configs::ACTIONS,
    appliance::ACTIONS,
    processing::ACTIONS,
    distribution::ACTIONS,
];

/// Finds the action a call means. Hand-written calls may leave the version out: names are unique over the families.
///
/// # Errors
/// `UnsupportedOperation` for an action that client libraries have and this appliance does not offer, else `InvalidAction`.
pub fn find(call: &Call) -> Result<&'static Action, ApiError> {
    let is_version = |version: Version| call.version.is_none_or(|wanted| wanted == version);
    let name = call.action.as_str();
    if let Some(action) = FAMILIES.iter().copied().flatten().find(|action| action.name == name && is_version(action.version)) {
        return Ok(action);
    }
    match known::family(name) {
        Some(version) if is_version(version) => Err(refuse("UnsupportedOperation", format!("The action {name} is not offered here."))),
        Some(version) => Err(refuse("InvalidAction", format!("The action {name} belongs to version {}.", version.name()))),
        None => Err(refuse("InvalidAction", format!("There is no action \"{}\".", values::shorten(name)))),
    }
}

/// The fields of an answer.
pub fn reply(value: Value) -> Reply {
    match value {
        Value::Object(fields) => fields,
        _ => Reply::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(action: &str, version: Option<Version>) -> Result<&'static str, &'static str> {
        let call = Call { action: action.to_owned(), version, parameters: Ok(Fields::new()) };
        find(&call).map(|action| action.name).map_err(|error| error.code)
    }

    #[test]
    fn actions_are_found_by_family() {
        assert_eq!(found("CreateRecordTask", Some(Version::Live)), Ok("CreateRecordTask"));
        assert_eq!(found("SearchMedia", Some(Version::Vod)), Ok("SearchMedia"));
        assert_eq!(found("SearchMedia", None), Ok("SearchMedia"));
        assert_eq!(found("SearchMedia", Some(Version::Live)), Err("InvalidAction"));
        assert_eq!(found("CreateLiveWatermarkRule", Some(Version::Live)), Err("UnsupportedOperation"));
        assert_eq!(found("CreateLiveWatermarkRule", None), Err("UnsupportedOperation"));
        assert_eq!(found("ApplyUpload", Some(Version::Vod)), Err("UnsupportedOperation"));
        assert_eq!(found("ApplyUpload", Some(Version::Live)), Err("InvalidAction"));
        assert_eq!(found("createRecordTask", None), Err("InvalidAction"));
        assert_eq!(found("", None), Err("InvalidAction"));
    }

    #[test]
    fn every_action_is_one_of_the_family() {
        for action in FAMILIES.iter().copied().flatten() {
            assert_eq!(known::family(action.name), Some(action.version), "{}", action.name);
        }
    }
}
