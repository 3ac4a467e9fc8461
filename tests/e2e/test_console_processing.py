"""The console's pages of what is made of recordings: definitions and task flows by forms, the queue with its progress, ends and retries, results where recordings are found."""

from appliance import until
from test_console import browser, page, picture, visit  # noqa: F401


def test_definitions_flows_and_the_queue(start, source, push, page):  # noqa: F811
    appliance = start(process={"preset": "ultrafast"})
    appliance.record("localhost", mp4=True)
    push(source("long"), appliance.url("camera-1"))
    file = appliance.file("camera-1")["FileId"]
    page.goto(f"{appliance.http}/#/definitions")
    page.get_by_text("SimpleAesEncryptPreset").wait_for()

    # A rendition of one's own, slow to make; a quick one; a task flow of both with a cover.
    renditions = page.locator("section").filter(has=page.get_by_role("heading", name="Renditions"))
    renditions.get_by_role("button", name="New").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Name", exact=True).fill("huge")
    form.get_by_label("Video codec").select_option("libx265")
    form.get_by_label("Height, pixels").fill("2160")
    form.get_by_label("Frames a second").fill("60")
    form.get_by_role("button", name="Create").click()
    renditions.get_by_text("huge").wait_for()
    made = appliance.call("DescribeTranscodeTemplates", version="2018-07-17", Type="Custom")["TranscodeTemplateSet"]
    assert [(item["Name"], item["VideoTemplate"]["Codec"], item["VideoTemplate"]["Height"]) for item in made] == [("huge", "libx265", 2160)]
    page.get_by_role("button", name="New task flow").click()
    form.get_by_label("Name", exact=True).fill("web")
    form.get_by_label("Cover").check()
    form.get_by_label("875 ·").check()
    form.get_by_label("huge").check()
    picture(page, "definitions-flow")
    form.get_by_role("button", name="Create").click()
    flows = page.locator("section").filter(has=page.get_by_role("heading", name="Task flows"))
    flows.get_by_role("row").filter(has_text="web").get_by_text("Renditions 875").wait_for()
    picture(page, "definitions")
    flows.get_by_role("row").filter(has_text="web").get_by_role("button", name="Edit").click()
    assert form.get_by_label("875 ·").is_checked() and form.get_by_label("Cover").is_checked()
    form.get_by_label("Remark").fill("for the web")
    form.get_by_role("button", name="Save").click()
    flows.get_by_text("for the web").wait_for()

    # Run by hand: bars move, it is ended, and what failed can be tried again.
    visit(page, f"recording/{file}", "complete")
    page.get_by_role("button", name="Process").click()
    form.get_by_label("Task flow").select_option("web")
    form.get_by_role("button", name="Start").click()
    bar = page.get_by_role("progressbar")
    bar.first.wait_for()
    until(lambda: int(bar.first.get_attribute("aria-valuenow") or 0) > 0, 30, "a bar that moves")
    picture(page, "processing")
    page.get_by_role("row").filter(has_text=file).get_by_role("button", name="End", exact=True).click()
    form.get_by_role("button", name="End it").click()
    page.get_by_text("The task was cancelled.").first.wait_for()
    page.get_by_role("row").filter(has_text=file).get_by_role("button", name="Retry").click()
    until(lambda: page.get_by_role("row").filter(has_text=file).count() == 2, 10, "the second attempt")
    task = appliance.call("DescribeTasks", FileId=file)["TaskSet"][0]["TaskId"]
    again = appliance.call("DescribeTaskDetail", TaskId=task)["ProcedureTask"]["MediaProcessResultSet"]
    assert "Transcode" in {result["Type"] for result in again}
    appliance.call("ManageTask", TaskId=task, OperationType="Abort")

    # The cover stands in the search, the results beside the recording.
    visit(page, "recordings", "Recordings")
    page.locator("img.thumb").wait_for()
    assert page.eval_on_selector("img.thumb", "image => image.decode().then(() => image.naturalWidth)") > 0
    picture(page, "recordings-cover")
