from table import Saved, bad, ok

TEMPLATE = Saved("template")


def rows(scene):
    mine = lambda answer: [rule for rule in answer["Rules"] if rule["DomainName"] == scene.domain]  # noqa: E731
    stream = {"DomainName": scene.domain, "AppName": "live/内", "StreamName": "直播 1".replace(" ", "+")}
    return [
        ok("CreateLiveRecordTemplate", save={"template": "TemplateId"}, TemplateName="rules", FlvParam={"Enable": 1}),
        ok("CreateLiveRecordRule", DomainName=scene.domain.upper(), TemplateId=TEMPLATE, AppName="", StreamName=""),
        ok("CreateLiveRecordRule", **stream, TemplateId=TEMPLATE),
        ok("DescribeLiveRecordRules", lambda a: [(r["AppName"], r["StreamName"]) for r in mine(a)] == [("", ""), (stream["AppName"], stream["StreamName"])]),
        bad("MissingParameter", "CreateLiveRecordRule", DomainName=scene.domain),
        bad("FailedOperation.RuleAlreadyExist", "CreateLiveRecordRule", DomainName=scene.domain, TemplateId=TEMPLATE),
        bad("InvalidParameter.ConfNotFound", "CreateLiveRecordRule", DomainName=scene.domain, StreamName="other", TemplateId=999_999_999),
        bad("InvalidParameter.DomainFormatError", "CreateLiveRecordRule", DomainName="no domain", TemplateId=TEMPLATE),
        bad("InvalidParameter.DomainTooLong", "CreateLiveRecordRule", DomainName="a." * 127 + "example", TemplateId=TEMPLATE),
        bad("FailedOperation.ConfInUsed", "DeleteLiveRecordTemplate", TemplateId=TEMPLATE),
        bad("FailedOperation.NotFound", "DeleteLiveRecordRule", DomainName=scene.domain, AppName="live"),
        ok("DeleteLiveRecordRule", DomainName=scene.domain),
        ok("DeleteLiveRecordRule", **stream),
        bad("FailedOperation.NotFound", "DeleteLiveRecordRule", **stream),
        ok("DescribeLiveRecordRules", lambda a: mine(a) == []),
        ok("DeleteLiveRecordTemplate", TemplateId=TEMPLATE),
    ]
