import time

from table import Saved, bad, ok

REMUX = {"MediaProcessTask": {"TranscodeTaskSet": [{"Definition": 875}], "CoverBySnapshotTaskSet": [{"Definition": 10, "PositionType": "Time", "PositionValue": 0}]}}


def rows(scene):
    file = {"FileId": scene.recorded["another"]()}
    session = {"SessionId": scene.tag[-20:] + str(time.time_ns() % 1_000_000)}
    task = {"TaskId": Saved("task")}

    def flow(answer):
        results = [next(value for key, value in result.items() if key != "Type" and value) for result in answer["ProcedureTask"]["MediaProcessResultSet"]]
        return answer["TaskType"] == "Procedure" and answer["ProcedureTask"]["FileId"] == file["FileId"] and len(results) == 2 and results[0]["Status"] in ("PROCESSING", "SUCCESS")

    return [
        ok("ProcessMedia", save={"task": "TaskId"}, **file, **REMUX, **session, SessionContext="context", TasksPriority=1, TasksNotifyMode="Finish"),
        ok("DescribeTaskDetail", flow, **task),
        ok("DescribeTasks", lambda a: [t["SessionContext"] for t in a["TaskSet"]] == ["context"] and a["ScrollToken"] == "", **file),
        bad("InvalidParameterValue.SessionId", "ProcessMedia", **file, **REMUX, **session),
        bad("InvalidParameterValue.FileId", "ProcessMedia", FileId="387702290000000000", **REMUX),
        bad("InvalidParameterValue", "ProcessMedia", **file, **REMUX, TasksPriority=11),
        bad("InvalidParameterValue", "ProcessMedia", **file, MediaProcessTask={"TranscodeTaskSet": [{"Definition": 5}]}),
        bad("UnsupportedOperation", "ProcessMedia", **file, MediaProcessTask={"AdaptiveDynamicStreamingTaskSet": [{"Definition": 20}]}),
        bad("InvalidParameterValue.Status", "DescribeTasks", Status="DONE"),
        bad("InvalidParameterValue", "DescribeTasks", Limit=101),
        bad("ResourceNotFound", "DescribeTaskDetail", TaskId="1-Procedure-none"),
        ok("ProcessMediaByProcedure", lambda a: a["ReviewAudioVideoTaskId"] == "" and a["TaskId"], {"flow": "TaskId"}, **file, ProcedureName="SimpleAesEncryptPreset", TasksPriority=-10),
        bad("InvalidParameterValue.ProcedureName", "ProcessMediaByProcedure", **file, ProcedureName="none"),
        ok("ManageTask", family="vod", raw=True, TaskId=Saved("flow"), OperationType="Abort"),
        bad("ResourceNotFound", "ManageTask", family="vod", raw=True, TaskId=Saved("flow"), OperationType="Abort"),
        bad("InvalidParameterValue", "DescribeDrmDataKey", family="vod", raw=True, EdkList=["none of ours"]),
    ]
