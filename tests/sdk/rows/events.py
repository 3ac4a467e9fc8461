from table import Saved, bad, ok


def rows(scene):
    app = {"SubAppId": Saved("app")}
    gone = scene.recorded["another"]()
    return [
        # An application of its own: other runs' events do not come in.
        ok("CreateSubAppId", save={"app": "SubAppId"}, Name=scene.tag[-30:]),
        ok("DescribeEventConfig", lambda a: (a["Mode"], a["NotificationUrl"], a["DeleteMediaCompleteEventSwitch"]) == ("PUSH", "", "OFF"), **app),
        ok("ModifyEventConfig", **app, Mode="PULL", DeleteMediaCompleteEventSwitch="ON", UploadMediaCompleteEventSwitch="ON"),
        ok("DescribeEventConfig", lambda a: (a["Mode"], a["DeleteMediaCompleteEventSwitch"]) == ("PULL", "ON"), **app),
        ok("PullEvents", lambda a: a["EventSet"] == [], **app),
        # The main one, where a file can be deleted.
        ok("ModifyEventConfig", Mode="PULL", DeleteMediaCompleteEventSwitch="ON"),
        ok("DeleteMedia", FileId=gone),
        ok("PullEvents", lambda a: [event["FileDeleteEvent"]["FileIdSet"] for event in a["EventSet"]] == [[gone]],
           {"handles": lambda a: [event["EventHandle"] for event in a["EventSet"]]}),
        ok("ConfirmEvents", EventHandles=Saved("handles")),
        bad("InvalidParameterValue", "ConfirmEvents", EventHandles=Saved("handles")),
        ok("ModifyEventConfig", Mode="PUSH", DeleteMediaCompleteEventSwitch="OFF"),
        bad("InvalidParameter", "ModifyEventConfig", **app, Mode="SHOUT"),
        bad("InvalidParameter", "ModifyEventConfig", **app, NotificationUrl="ftp://a.example/"),
        bad("MissingParameter", "ConfirmEvents", **app),
        bad("InvalidParameterValue", "ConfirmEvents", **app, EventHandles=["nothing"]),
        bad("InvalidParameterValue", "ConfirmEvents", **app, EventHandles=["x"] * 17),
        bad("InvalidParameterValue.SubAppId", "PullEvents", SubAppId=7),
        bad("InvalidParameterValue.SubAppId", "DescribeEventConfig", SubAppId=7),
        ok("ModifySubAppIdStatus", **app, Status="Destroyed"),
    ]
