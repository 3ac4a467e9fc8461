//! What became of the work that was asked for: DescribeTasks and DescribeTaskDetail.

use serde_json::{Map, Value, json};

use super::results::procedure_task;
use super::{Action, Scope, action, reply};
use crate::catalog::{CatalogError, VodTaskQuery, flow_of};
use crate::control::errors::{ApiError, refuse};
use crate::control::params::parameters;
use crate::control::protocol::Reply;
use crate::control::times;
use crate::domain::vod_task::KEPT_MICROS;
use crate::domain::{VodTask, VodTaskKind, VodTaskStatus};
use crate::units::{FileId, WallTime};

pub const ACTIONS: &[Action] = &[action!("DescribeTasks", Vod, list), action!("DescribeTaskDetail", Vod, detail)];

const LIMIT_DEFAULT: u64 = 10;
const LIMIT_MAX: u64 = 100;

parameters! {
    ListRequest {
        optional {
            sub_app_id: u64 = "SubAppId",
            status: String = "Status",
            file_id: String = "FileId",
            create_time: Range = "CreateTime",
            finish_time: Range = "FinishTime",
            sort: Sort = "Sort",
            limit: u64 = "Limit",
            scroll_token: String = "ScrollToken",
        }
    }
}

parameters! {
    Range {
        optional {
            after: String = "After",
            before: String = "Before",
        }
    }
}

parameters! {
    Sort {
        required { field: String = "Field", }
        optional { order: String = "Order", }
    }
}

parameters! {
    DetailRequest {
        required { task_id: String = "TaskId", }
        optional { sub_app_id: u64 = "SubAppId", }
    }
}

/// The `EditMediaTask` of a task, as it is shown and as events carry it.
pub fn task_object(task: &VodTask) -> Value {
    let mut object = task.object.as_object().cloned().unwrap_or_default();
    for (name, value) in [
        ("TaskId", task.id.as_str()),
        ("Status", task.status.name()),
        ("SessionId", task.session_id.as_str()),
        ("SessionContext", task.session_context.as_str()),
    ] {
        object.insert(name.to_owned(), Value::from(value));
    }
    Value::Object(object)
}

fn time(time: Option<WallTime>) -> String {
    time.map(times::utc).unwrap_or_default()
}

fn simple(task: &VodTask) -> Value {
    json!({
        "TaskId": task.id,
        "Status": task.status.name(),
        "FileId": task.file_id.map(|id| id.to_string()).unwrap_or_default(),
        "TaskType": task.kind.name(),
        "CreateTime": times::utc(task.create_time),
        "BeginProcessTime": time(task.begin_time),
        "FinishTime": time(task.finish_time),
        "SessionId": task.session_id,
        "SessionContext": task.session_context,
    })
}

fn detail(scope: &Scope<'_>, request: DetailRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let task = scope.context.catalog.vod_task(app, &request.task_id, scope.now).map_err(|error| match error {
        CatalogError::NotFound => refuse("ResourceNotFound", format!("There is no task {}.", super::values::shorten(&request.task_id))),
        error => error.into(),
    })?;
    let mut answer: Map<String, Value> = reply(json!({
        "TaskType": task.kind.name(),
        "Status": task.status.name(),
        "CreateTime": times::utc(task.create_time),
        "BeginProcessTime": time(task.begin_time),
        "FinishTime": time(task.finish_time),
    }));
    let object = match task.kind {
        VodTaskKind::EditMedia => {
            let mut object = task_object(&task);
            if let Some((_, percent)) = scope.context.catalog.progress(&task.id).filter(|_| !task.status.is_over()) {
                object["Progress"] = percent.into();
            }
            object
        }
        VodTaskKind::Procedure => {
            let context = scope.context;
            let flow = flow_of(&task)?;
            let row = context.catalog.files(app, &[flow.file_id])?.remove(&flow.file_id);
            procedure_task(&task, &flow, row.as_ref(), context.catalog.progress(&task.id), &context.public_base, context.app_id)
        }
    };
    answer.insert(format!("{}Task", task.kind.name()), object);
    Ok(answer)
}

fn list(scope: &Scope<'_>, request: ListRequest) -> Result<Reply, ApiError> {
    let app = scope.sub_app(request.sub_app_id)?;
    let query = query(request, app, scope.now)?;
    let Some(query) = query else { return Ok(reply(json!({ "TaskSet": [], "ScrollToken": "" }))) };
    // One more than a page tells whether there is a next one.
    let limit = query.limit - 1;
    let mut tasks = scope.context.catalog.vod_tasks(&query)?;
    let more = tasks.len() > limit;
    tasks.truncate(limit);
    let token = tasks.last().filter(|_| more).map(|task| token(task, query.by_finish)).unwrap_or_default();
    Ok(reply(json!({ "TaskSet": tasks.iter().map(simple).collect::<Vec<_>>(), "ScrollToken": token })))
}

/// `None`: nothing can match.
fn query(request: ListRequest, sub_app_id: u64, now: WallTime) -> Result<Option<VodTaskQuery>, ApiError> {
    let status = match request.status.filter(|status| !status.is_empty()) {
        Some(status) => Some(
            VodTaskStatus::parse(&status)
                .filter(|status| *status != VodTaskStatus::Aborted)
                .ok_or_else(|| refuse("InvalidParameterValue.Status", "Status must be WAITING, PROCESSING or FINISH."))?,
        ),
        None => None,
    };
    let limit = match request.limit.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => limit as usize,
        limit => return Err(ApiError::value(format!("Limit is {limit}; it must be 1 to {LIMIT_MAX}."))),
    };
    let (by_finish, ascending) = match &request.sort {
        None => (false, false),
        Some(sort) => {
            let by_finish = match sort.field.as_str() {
                "CreateTime" => false,
                "FinishTime" => true,
                _ => return Err(ApiError::value("Sort.Field must be CreateTime or FinishTime.")),
            };
            let order = sort.order.as_deref().unwrap_or("Desc");
            if !order.eq_ignore_ascii_case("asc") && !order.eq_ignore_ascii_case("desc") {
                return Err(ApiError::value("Sort.Order must be Asc or Desc."));
            }
            (by_finish, order.eq_ignore_ascii_case("asc"))
        }
    };
    let moment = |text: Option<String>, name: &str| match text.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => times::read_utc(&text).map(Some).ok_or_else(|| ApiError::value(format!("{name} must be a time like 2026-01-01T08:00:00Z."))),
    };
    let range = |range: Option<Range>| range.unwrap_or(Range { after: None, before: None });
    let (create, finish) = (range(request.create_time), range(request.finish_time));
    let oldest = WallTime::from_unix_micros(now.unix_micros().saturating_sub(KEPT_MICROS));
    let after = match request.scroll_token.as_deref() {
        None | Some("") => None,
        Some(token) => Some(read_token(token).ok_or_else(|| ApiError::value("ScrollToken is none of ours."))?),
    };
    let file_id = match request.file_id.filter(|id| !id.is_empty()) {
        None => None,
        Some(id) => match FileId::parse(&id) {
            Some(id) => Some(id),
            None => return Ok(None),
        },
    };
    Ok(Some(VodTaskQuery {
        sub_app_id,
        status,
        file_id,
        create_after: Some(moment(create.after, "CreateTime.After")?.map_or(oldest, |after| after.max(oldest))),
        create_before: moment(create.before, "CreateTime.Before")?,
        finish_after: moment(finish.after, "FinishTime.After")?,
        finish_before: moment(finish.before, "FinishTime.Before")?,
        by_finish,
        ascending,
        after,
        limit: limit + 1,
    }))
}

/// The token names the last task of the page by its order, so tasks that come meanwhile cause no repeats.
fn token(task: &VodTask, by_finish: bool) -> String {
    let time = if by_finish { task.finish_time.unwrap_or(task.create_time) } else { task.create_time };
    format!("{}.{}", time.unix_micros(), task.id)
}

fn read_token(token: &str) -> Option<(WallTime, String)> {
    let (micros, id) = token.split_once('.')?;
    let is_id = id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_id.then_some((WallTime::from_unix_micros(micros.parse().ok()?), id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{Running, code_of};
    use super::*;

    const VOD: &str = "2018-07-17";

    fn task(number: i64, now: WallTime) -> VodTask {
        VodTask {
            id: format!("1300000001-EditMedia-{number:x}"),
            sub_app_id: 0,
            kind: VodTaskKind::EditMedia,
            status: VodTaskStatus::Waiting,
            file_id: None,
            priority: number % 3,
            create_time: WallTime::from_unix_micros(now.unix_micros() + number),
            begin_time: None,
            finish_time: None,
            session_id: format!("s{number}"),
            session_context: "context".to_owned(),
            work: json!({}),
            object: json!({ "ErrCode": 0 }),
        }
    }

    #[test]
    fn pages_details_and_refusals() {
        let running = Running::start();
        // On a busy machine it would begin with them before they are looked at.
        running.context.clips.stop();
        let now = (running.context.clock)();
        let catalog = &running.context.catalog;
        for number in 0..5 {
            catalog.enter_vod_task(task(number, now), 1_000_000).unwrap();
        }
        let mut again = task(5, now);
        again.session_id = "s1".to_owned();
        assert!(matches!(catalog.enter_vod_task(again, 1_000_000), Err(CatalogError::Exists)), "the session id was used");
        let order: Vec<i64> = catalog.open_vod_tasks(VodTaskKind::EditMedia, 10).unwrap().iter().map(|task| task.priority).collect();
        assert_eq!(order, [2, 1, 1, 0, 0]);
        let finish = move |task: &mut VodTask| (task.status, task.finish_time) = (VodTaskStatus::Finish, Some(now));
        catalog.change_vod_task("1300000001-EditMedia-1", finish).unwrap();
        assert!(matches!(catalog.change_vod_task("1300000001-EditMedia-1", finish), Err(CatalogError::NotFound)), "over is over");

        let (mut token, mut seen) = (String::new(), Vec::new());
        loop {
            let page = running.json("DescribeTasks", VOD, &json!({"Limit": 2, "ScrollToken": token}));
            seen.extend(page["TaskSet"].as_array().unwrap().iter().map(|task| task["TaskId"].as_str().unwrap().to_owned()));
            token = page["ScrollToken"].as_str().unwrap().to_owned();
            if token.is_empty() {
                break;
            }
        }
        let expected: Vec<String> = (0..5).rev().map(|number| format!("1300000001-EditMedia-{number:x}")).collect();
        assert_eq!(seen, expected);
        let count = |body: Value| running.json("DescribeTasks", VOD, &body)["TaskSet"].as_array().map(Vec::len);
        assert_eq!(count(json!({"Status": "FINISH"})), Some(1));
        assert_eq!(count(json!({"Status": "WAITING", "Sort": {"Field": "CreateTime", "Order": "asc"}})), Some(4));
        assert_eq!(count(json!({"Sort": {"Field": "FinishTime"}})), Some(1));
        assert_eq!(count(json!({"FileId": "5"})), Some(0));
        let detail = running.json("DescribeTaskDetail", VOD, &json!({"TaskId": "1300000001-EditMedia-1"}));
        assert_eq!((&detail["TaskType"], &detail["EditMediaTask"]["Status"]), (&json!("EditMedia"), &json!("FINISH")));
        assert_eq!(detail["EditMediaTask"]["SessionId"], "s1");
        for (action, body, code) in [
            ("DescribeTasks", json!({"Status": "DONE"}), "InvalidParameterValue.Status"),
            ("DescribeTasks", json!({"Limit": 0}), "InvalidParameterValue"),
            ("DescribeTasks", json!({"Limit": 101}), "InvalidParameterValue"),
            ("DescribeTasks", json!({"ScrollToken": "x"}), "InvalidParameterValue"),
            ("DescribeTasks", json!({"Sort": {"Field": "Name"}}), "InvalidParameterValue"),
            ("DescribeTaskDetail", json!({"TaskId": "nope"}), "ResourceNotFound"),
            ("DescribeTaskDetail", json!({}), "MissingParameter"),
        ] {
            assert_eq!(code_of(&running.json(action, VOD, &body)), code, "{action} {body}");
        }
    }
}
