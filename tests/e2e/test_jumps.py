"""What ends a file in the middle of a publication: timestamps that go back or jump, and other codec parameters. HLS goes on behind a discontinuity."""

import pytest

import media
from check import check, read
from rtmp import AUDIO, VIDEO, is_configuration, publisher
from test_resume import stretches


def send(capstan, name, domain, runs):
    """Publishes sources one after the other, each with its sequence headers and its times moved to begin at so many milliseconds."""
    connection = publisher(capstan.rtmp_port, f"{name}?vhost={domain}")
    for source, begin in runs:
        for kind, timestamp, body in media.flv_tags(media.source(source)):
            connection.tag(kind, begin + (0 if is_configuration(kind, body) else timestamp), body)
    connection.close()


# What is sent, and how many files come of it. A source is 6 s long.
CASES = {
    "forward by a minute": ([("av", 0), ("av", 66_000)], 2),
    "back to zero": ([("av", 90_000), ("av", 0)], 2),
    "forward by nine seconds": ([("av", 0), ("av", 15_000)], 1),
    "the same headers again": ([("av", 0), ("av", 6_100)], 1),
    "another resolution and sample rate": ([("av", 0), ("bframes", 6_000)], 2),
    "there and back": ([("av", 0), ("av", 100_000), ("av", 6_000)], 3),
}


@pytest.mark.parametrize("what", CASES)
def test_a_new_file_or_a_discontinuity(capstan, tmp_path, domain, what):
    runs, count = CASES[what]
    capstan.record(domain, flv=True, mp4=True, hls=True, aac=True)
    send(capstan, "jump", domain, runs)
    files = capstan.files("jump", domain, 3 * count + 1)
    of_type = lambda kind: [file for file in files if file["BasicInfo"]["Type"] == kind]  # noqa: E731
    wholes = [media.packets(media.source(source)) for source, _ in runs]
    if count == 1:
        wholes = [media.joined(wholes)]
    for kind in ("flv", "mp4", "aac"):
        assert len(of_type(kind)) == count, kind
        for file, expected in zip(of_type(kind), wholes):
            if count > 1:
                check(capstan, file, expected)
            else:
                media.assert_same_payloads(expected.only("audio") if kind == "aac" else expected, read(capstan, file), kind)
    (hls,) = of_type("hls")
    path = capstan.path_of(hls)
    playlists = [media.packets(playlist) for playlist in stretches(path, tmp_path / "stretches")]
    if count == 1:
        # A gap that no segment can be as long as is a discontinuity of the playlist too.
        playlists = [media.joined(playlists)]
    assert len(playlists) == count, path.read_text()
    for found, expected in zip(playlists, wholes):
        media.assert_same_payloads(expected, found, "hls")
