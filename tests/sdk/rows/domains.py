from table import bad, ok


def rows(scene):
    push, play = {"DomainName": scene.domain}, {"DomainName": f"play.{scene.domain}"}
    unknown = {"DomainName": f"unknown.{scene.domain}"}
    key = lambda answer: answer["PushAuthKeyInfo"]  # noqa: E731
    names = lambda answer: [entry["Name"] for entry in answer["DomainList"]]  # noqa: E731
    changed = {"Enable": 1, "MasterAuthKey": "main-key_1", "BackupAuthKey": "backup", "AuthDelta": 60}
    return [
        ok("AddLiveDomain", DomainName=scene.domain.upper(), DomainType=0, PlayType=1, IsDelayLive=0, IsMiniProgramLive=0, VerifyOwnerType="dnsCheck"),
        ok("AddLiveDomain", **play, DomainType=1, PlayType=2),
        ok("DescribeLiveDomain", lambda a: (a["DomainInfo"]["Name"], a["DomainInfo"]["Type"], a["DomainInfo"]["Status"]) == (scene.domain, 0, 1), **push),
        ok("DescribeLiveDomains", lambda a: (names(a), a["AllCount"], len(a["PlayTypeCount"])) == ([f"play.{scene.domain}"], 1, 3), DomainPrefix=f"play.{scene.domain}"),
        ok("DescribeLiveDomains", lambda a: scene.domain in names(a) and f"play.{scene.domain}" not in names(a), DomainType=0, DomainStatus=1, PageSize=100, PageNum=1),
        ok("DescribeLivePushAuthKey", lambda a: (key(a)["Enable"], len(key(a)["MasterAuthKey"])) == (0, 32), **push),
        ok("ModifyLivePushAuthKey", **push, **changed),
        ok("DescribeLivePushAuthKey", lambda a: key(a) == {**push, **changed}, **push),
        ok("ForbidLiveDomain", **push),
        ok("DescribeLiveDomain", lambda a: a["DomainInfo"]["Status"] == 0, **push),
        ok("EnableLiveDomain", **push),
        ok("DescribeLiveDomain", lambda a: a["DomainInfo"]["Status"] == 1, **push),
        bad("MissingParameter", "AddLiveDomain", **push),
        bad("FailedOperation.DomainAdded", "AddLiveDomain", **push, DomainType=0),
        bad("InvalidParameterValue", "AddLiveDomain", **unknown, DomainType=2),
        bad("InvalidParameter.DomainFormatError", "AddLiveDomain", DomainName="no domain", DomainType=0),
        bad("InvalidParameter.DomainTooLong", "AddLiveDomain", DomainName="a." * 127 + "example", DomainType=0),
        bad("ResourceNotFound.DomainNotExist", "DescribeLiveDomain", **unknown),
        bad("InvalidParameterValue", "DescribeLiveDomains", PageSize=101),
        bad("InvalidParameterValue", "DescribeLiveDomains", PageNum=0),
        bad("ResourceNotFound.PushDomainNoRecord", "DescribeLivePushAuthKey", **unknown),
        bad("ResourceNotFound.PushDomainNoRecord", "ModifyLivePushAuthKey", **unknown, Enable=1),
        bad("InvalidParameterValue", "ModifyLivePushAuthKey", **push, MasterAuthKey="no spaces"),
        bad("InvalidParameterValue", "ModifyLivePushAuthKey", **push, AuthDelta=604_801),
        bad("ResourceNotFound", "EnableLiveDomain", **unknown),
        bad("ResourceNotFound", "ForbidLiveDomain", **unknown),
        bad("ResourceNotFound.DomainNotExist", "DeleteLiveDomain", **unknown, DomainType=0),
        bad("MissingParameter", "DeleteLiveDomain", **push),
        ok("DeleteLiveDomain", **push, DomainType=0),
        ok("DeleteLiveDomain", **play, DomainType=1),
        bad("ResourceNotFound.DomainNotExist", "DescribeLiveDomain", **push),
    ]
