from table import Saved, bad, ok


def rows(scene):
    app = {"SubAppId": Saved("app")}
    return [
        ok("CreateSubAppId", save={"app": "SubAppId"}, Name=scene.tag[-30:]),
        ok("DescribeDefaultDistributionConfig", lambda a: 8 <= len(a["PlayKey"]) <= 20 and a["Scheme"] == "HTTP" and a["Domain"], {"key": "PlayKey", "domain": "Domain"}, **app),
        ok("DescribeDefaultDistributionConfig", lambda a: len(a["PlayKey"]) >= 8, **app),
        ok("ModifyDefaultDistributionConfig", family="vod", raw=True, **app, PlayKey="aKey12345", Domain=Saved("domain"), Scheme="HTTP"),
        ok("DescribeDefaultDistributionConfig", lambda a: a["PlayKey"] == "aKey12345", **app),
        bad("InvalidParameterValue", "ModifyDefaultDistributionConfig", family="vod", raw=True, **app, PlayKey="short"),
        bad("UnsupportedOperation", "ModifyDefaultDistributionConfig", family="vod", raw=True, **app, Domain="media.example.com"),
        bad("InvalidParameterValue.SubAppId", "DescribeDefaultDistributionConfig", SubAppId=7),
        ok("ModifySubAppIdStatus", **app, Status="Destroyed"),
    ]
