from table import Saved, bad, ok

TEMPLATE = Saved("template")
# Of newer SDKs than the wire types; of the three the last stands in requests only.
NEWER = {"RecordExceptionNotifyUrl": "http://127.0.0.1:9/exception", "RecordExceptionLevels": ["warning", "error"], "RecordStatusNotifyUrl": "http://127.0.0.1:9/status"}


def rows(scene):
    urls = {f"{name}NotifyUrl": f"http://127.0.0.1:9/{name}?a=1&b=%20" for name in ("StreamBegin", "StreamEnd", "Record", "Snapshot", "PornCensorship", "StreamMix", "PushException")}
    create = {"TemplateName": "callbacks-新闻_1", "Description": "Who is told,\n+ & = %", "CallbackKey": "a key + & =", **urls}
    mine = lambda answer: [rule for rule in answer["Rules"] if rule["DomainName"] == scene.domain]  # noqa: E731
    has = lambda fields: lambda answer: {name: answer["Template"][name] for name in fields} == fields  # noqa: E731
    rule = {"DomainName": scene.domain, "AppName": "live"}
    return [
        ok("CreateLiveCallbackTemplate", lambda a: a["TemplateId"] > 1000, {"template": "TemplateId"}, **create),
        ok("DescribeLiveCallbackTemplate", has(create), TemplateId=TEMPLATE),
        ok("DescribeLiveCallbackTemplate", has({"AudioAuditNotifyUrl": "", "RecordExceptionNotifyUrl": "", "RecordStatusNotifyUrl": "", "RecordExceptionLevels": []}), TemplateId=TEMPLATE),
        ok("ModifyLiveCallbackTemplate", raw=True, TemplateId=TEMPLATE, StreamBeginNotifyUrl="", Description="d", **{**NEWER, "RecordExceptionLevels": ["alarm", "error"]}),
        ok("DescribeLiveCallbackTemplate", has({**create, "StreamBeginNotifyUrl": "", "Description": "d", **NEWER}), TemplateId=TEMPLATE),
        ok("DescribeLiveCallbackTemplates", lambda a: any(t["CallbackKey"] == create["CallbackKey"] for t in a["Templates"])),
        bad("InvalidParameter.ArgsNotMatch", "CreateLiveCallbackTemplate", TemplateName="a b"),
        bad("MissingParameter", "CreateLiveCallbackTemplate", Description="d"),
        bad("InvalidParameterValue", "CreateLiveCallbackTemplate", TemplateName="t", RecordNotifyUrl="ftp://127.0.0.1/"),
        bad("InvalidParameterValue", "CreateLiveCallbackTemplate", TemplateName="t", CallbackKey="k" * 256),
        bad("UnknownParameter", "CreateLiveCallbackTemplate", raw=True, TemplateName="t", Colour="red"),
        bad("InvalidParameter.ArgsNotMatch", "ModifyLiveCallbackTemplate", TemplateId=TEMPLATE, TemplateName="a b"),
        bad("FailedOperation.NotFound", "ModifyLiveCallbackTemplate", TemplateId=999_999_999, Description="x"),
        bad("FailedOperation.NotFound", "DescribeLiveCallbackTemplate", TemplateId=999_999_999),
        bad("UnknownParameter", "DescribeLiveCallbackTemplates", raw=True, Colour="red"),
        ok("CreateLiveCallbackRule", DomainName=scene.domain.upper(), AppName="live", TemplateId=TEMPLATE),
        ok("CreateLiveCallbackRule", raw=True, DomainName=scene.domain, TemplateId=TEMPLATE),
        ok("DescribeLiveCallbackRules", lambda a: [r["AppName"] for r in mine(a)] == ["live", ""] and len(mine(a)[0]["CreateTime"]) == 19),
        bad("FailedOperation.RuleAlreadyExist", "CreateLiveCallbackRule", **rule, TemplateId=TEMPLATE),
        bad("InvalidParameter.ConfNotFound", "CreateLiveCallbackRule", DomainName=scene.domain, AppName="other", TemplateId=999_999_999),
        bad("InvalidParameter.DomainFormatError", "CreateLiveCallbackRule", DomainName="no domain", AppName="live", TemplateId=TEMPLATE),
        bad("UnknownParameter", "DescribeLiveCallbackRules", raw=True, StreamName="x"),
        bad("FailedOperation.ConfInUsed", "DeleteLiveCallbackTemplate", TemplateId=TEMPLATE),
        bad("FailedOperation.NotFound", "DeleteLiveCallbackRule", DomainName=scene.domain, AppName="other"),
        ok("DeleteLiveCallbackRule", **rule),
        ok("DeleteLiveCallbackRule", raw=True, DomainName=scene.domain),
        ok("DescribeLiveCallbackRules", lambda a: mine(a) == []),
        ok("DeleteLiveCallbackTemplate", TemplateId=TEMPLATE),
        bad("FailedOperation.NotFound", "DeleteLiveCallbackTemplate", TemplateId=TEMPLATE),
        ok("DescribeCallbackDeliveries", lambda a: a["TotalCount"] == 0 and a["Deliveries"] == [], raw=True, Url="http://127.0.0.1:9/nothing"),
        bad("InvalidParameterValue", "DescribeCallbackDeliveries", raw=True, State="lost"),
        ok("ReplayCallbackDeliveries", lambda a: a["Count"] == 0, raw=True, DeliveryIds=[999_999_999]),
        bad("MissingParameter", "ReplayCallbackDeliveries", raw=True),
    ]
