"""No secret of an address is shown, wherever it stands and whatever it is made of."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.redaction import redact, redact_within
from lrp_edge.runtime.sources import open_source

anything = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=4, max_size=16)
#: Passwords as people choose them, with each sign that means something in an address or a pipeline.
awkward = st.text("ab19/?#@:&;=_,. !\"'\\%+-", min_size=4, max_size=12)
secrets = anything | awkward
#: Where a secret may stand, so that the address still means what it should without anybody escaping anything.
PLACES = {
    "password": "rtsp://admin:{}@camera:554/live?channel=1",
    "user": "http://{}:x@camera/live",
    "user alone": "http://{}@camera/live",
    "of a broker": "mqtts://line:{}@broker.example:8883",
    "of a webhook": "https://{}@hooks.example/line",
    "unknown scheme": "rstp://admin:{}@camera",
    "one slash": "rtsp:/admin:{}@camera/live",
    "no scheme": "admin:{}@camera/live",
    "end of path": "rtsp://camera/live/user=admin_password={}",
    "in path": "rtsp://camera/user=admin_password={}_channel=1_stream=0.sdp",
    "in path, by ampersand": "rtsp://camera/user=admin&password={}&channel=1&stream=0.sdp",
    "unknown name in path": "rtsp://camera/x={}/channel=1",
}
#: Where it is escaped, or is not a part of the address at all.
ESCAPED = {
    "query": "http://camera/x?token={}&channel=1",
    "query, first of two": "http://camera/x?channel=1&sig={}&subtype=0",
    "unknown name in a query": "http://camera/x?X-Amz-Signature={}",
    "no name": "http://camera/x?{}",
    "escaped name": "http://camera/x?%70assword={}",
    "fragment": "rtsp://camera/x#{}",
    "named in a fragment": "rtsp://camera/x#transport=udp&key={}",
    "pipeline's address": "gst://rtspsrc location=rtsp://u:{}@camera/x latency=0 ! decodebin",
    "its query": "gst://srtsrc uri=srt://camera?passphrase={} ! decodebin",
    "quoted address": 'gst://rtspsrc location="rtsp://u:{}@camera/x" latency=0 ! decodebin',
}
PROPERTIES = ["user-pw", "user-id", "proxy-pw", "passphrase", "cookies", "extra-headers", "streamid", "anything-else"]


@pytest.mark.parametrize("place", PLACES)
@given(secret=secrets)
def test_no_secret_is_shown_that_nobody_escaped(place: str, secret: str) -> None:
    check(PLACES[place], secret)


@pytest.mark.parametrize("place", ESCAPED)
@given(secret=secrets)
def test_no_secret_is_shown_that_is_escaped(place: str, secret: str) -> None:
    check(ESCAPED[place], quote(secret, safe=""))


@pytest.mark.parametrize("name", PROPERTIES)
@given(secret=secrets, quotes=st.sampled_from(["'", '"']), equals=st.sampled_from(["=", " = ", "= ", "\t="]))
def test_no_secret_of_a_pipeline_is_shown(name: str, secret: str, quotes: str, equals: str) -> None:
    escaped = secret.replace("\\", "\\\\").replace(quotes, f"\\{quotes}")
    check(f"gst://rtspsrc {name}{equals}{quotes}{{}}{quotes} latency=0 ! decodebin", escaped)
    bare = "".join(sign for sign in secret if sign not in " \t\\'\"," and sign.isprintable())
    check(f"gst://rtspsrc {name}{equals}{{}} latency=0 ! decodebin", bare)


def check(place: str, secret: str) -> None:
    """See that what is around a secret is what it would be around any other, and the secret is not there."""
    # A secret that is a word of the address, as a password "camera" is, cannot be seen not to be there.
    assume(len(secret) >= 4)
    address = place.replace("{}", secret)
    shown = redact(address)
    assert secret not in shown.replace("***", "") or secret in place, shown
    assert redact(shown) == shown
    library = redact_within(f"cannot open '{address}' (Error)\nsyntax error in {address}", address)
    assert secret not in library.replace("***", "") or secret in place + "cannot open (Error) syntax error in", library


EVERYWHERE = [*PLACES.values(), *ESCAPED.values(), *(f"gst://x {name}='{{}}'" for name in PROPERTIES)]


@pytest.mark.parametrize("place", EVERYWHERE)
@given(secret=st.from_regex(r"[A-Za-z0-9]{4,12}", fullmatch=True))
def test_no_library_may_repeat_a_secret_by_itself(place: str, secret: str) -> None:
    assert redact_within(f"no: {secret}", place.replace("{}", secret)) == "no: ***"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:a#b/c?d e@f@camera:554/live?channel=1", "rtsp://***@camera:554/live?channel=1"),
        (
            "rtsp://c/user=admin_password=ab_cd/e_channel=1_stream=0.sdp",
            "rtsp://c/user=***_password=***_channel=1_stream=0.sdp",
        ),
        ("http://c/x?Channel=2&token=abcd&Foo=bar&subtype=0", "http://c/x?Channel=2&token=***&subtype=0"),
        ("http://c/x?channel=a%20secret", "http://c/x?channel=***"),
        ("gst://rtspsrc user-pw = 'a b' latency=0 ! x", "gst://rtspsrc user-pw = *** latency=0 ! x"),
        ("gst://rtspsrc user-pw=a b latency=0 ! x", "gst://rtspsrc user-pw=*** *** latency=0 ! x"),
        ('gst://rtspsrc user-pw="never ends ! x', "gst://rtspsrc user-pw=***"),
        (
            "gst://rtspsrc location=rtsp://u:a b@c/d latency=0 ! x",
            "gst://rtspsrc location=rtsp://***@c/d latency=0 ! x",
        ),
        ("rtsp:/admin:abcd@camera", "***@camera"),
    ],
)
def test_what_is_left_tells_one_camera_from_another(address: str, shown: str) -> None:
    assert redact(address) == shown


@pytest.mark.parametrize(
    "text",
    [
        "parts/*.png",
        "parts@2x/a=b.png",
        "C:\\parts@2\\a.png",
        "file:///data/a@b/c=d.png",
        "v4l2:///dev/video2?format=MJPG&exposure=5000",
        "csi://0?exposure=50&gain=2.5",
        "aravis://Basler-2?pixel-format=Mono8&region=0,0,640,480&packet-size=1500&trigger=on",
        "rtsp://camera:554/a/b?channel=1&subtype=0#transport=udp",
        "http://[::1]:80/axis-cgi/mjpg/video.cgi?resolution=640x480&fps=25",
        'gst://v4l2src device=/dev/video0 ! "video/x-raw, format=(string)YUY2,width=640,framerate=30/1" ! x ! a.',
        'gst://nvarguscamerasrc sensor-id=0 exposuretimerange="5 5" ! video/x-raw(memory:NVMM),width=640 ! nvvidconv',
        "gst://rtspsrc location=rtsp://camera/x latency=0 protocols=tcp name=t ! decodebin t. ! queue leaky=2",
    ],
)
def test_what_is_harmless_is_shown(text: str) -> None:
    assert redact(text) == text


@given(text=st.text())
def test_a_path_is_shown_as_it_is(text: str) -> None:
    assume("@" not in text and "://" not in text)
    assert redact(text) == text


@given(text=st.text() | st.text("gst:/@=&?#! '\"\\ab,_").map("gst://".__add__) | awkward.map("rtsp://".__add__))
def test_any_text_can_be_redacted(text: str) -> None:
    assert redact(redact(text)) == redact(text)
    redact_within(text, text)


@pytest.mark.parametrize("secret", ["Xy7Xy7", "ab#Xy7Xy7", "ab/Xy7Xy7", "ab?Xy7Xy7", "a bXy7Xy7"])
@pytest.mark.parametrize(
    "text",
    [
        "rstp://admin:{}@camera",
        "http://a:{}@[::1/x",
        "rtsp://a:{}@127.0.0.1:99999/x",
        "rtsp://a:{}@127.0.0.1:port/x",
        "http://a:{}@127.0.0.1:1/x#frag",
        "rtsp://a:{}@127.0.0.1:1#transport=tpc",
        "rtsp://a:{}@127.0.0.1:1#trasnport=tcp",
        "rtsp:/a:{}@127.0.0.1",
    ],
)
def test_no_error_of_a_source_shows_a_secret(text: str, secret: str) -> None:
    with pytest.raises(LrpEdgeError) as caught:
        next(iter(open_source(text.replace("{}", secret))))
    assert "Xy7" not in str(caught.value)
