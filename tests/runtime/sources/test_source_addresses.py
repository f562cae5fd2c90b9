"""Addresses of sources: their parts, what is wrong with them, and the secrets that are not shown."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrp_edge.errors import LrpEdgeError
from lrp_edge.runtime.sources import SourceLost, open_source
from lrp_edge.runtime.sources.uri import (
    Address,
    check_parameters,
    credentials,
    has_raw_password,
    number,
    parse,
    with_credentials,
)

SCHEMES = ("file", "v4l2", "csi", "rtsp", "rtsps", "http", "https", "gst", "aravis")
# No address or word of a message has this in it.
MARK = "Xy7"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LRP_EDGE_SOURCE_USER", raising=False)
    monkeypatch.delenv("LRP_EDGE_SOURCE_PASSWORD", raising=False)


@pytest.mark.parametrize(
    ("text", "scheme", "place", "parameters"),
    [
        ("parts", "", "parts", {}),
        ("C:\\parts\\*.png", "", "C:\\parts\\*.png", {}),
        ("a?b.png", "", "a?b.png", {}),
        ("0", "v4l2", "/dev/video0", {}),
        ("v4l2:///dev/video2?format=MJPG", "v4l2", "/dev/video2", {"format": "MJPG"}),
        ("csi://1?exposure=50&gain=", "csi", "1", {"exposure": "50", "gain": ""}),
        ("RTSP://camera/Stream?channel=1", "rtsp", "camera/Stream", {"channel": "1"}),
        ("aravis://", "aravis", "", {}),
        ("aravis://Basler-2%34?x=a%20b", "aravis", "Basler-2%34", {"x": "a b"}),
        ("gst://a location=http://h/?x=1 ! b", "gst", "a location=http://h/?x=1 ! b", {}),
    ],
)
def test_parts_of_an_address(text: str, scheme: str, place: str, parameters: dict) -> None:
    found = parse(text, SCHEMES)
    assert (found.scheme, found.place, found.parameters) == (scheme, place, parameters)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rstp://camera/x", "did you mean rtsp://"),
        ("htps://camera/x", "did you mean https://"),
        ("aravid://", "did you mean aravis://"),
        ("zmq://camera/x", "expected a path or one of aravis, csi,"),
    ],
)
def test_a_scheme_that_is_not_known(text: str, said: str) -> None:
    with pytest.raises(LrpEdgeError, match=said):
        parse(text, SCHEMES)
    with pytest.raises(LrpEdgeError, match=said):
        open_source(text)


def test_a_parameter_that_is_not_known() -> None:
    address = parse("csi://0?expozure=3", SCHEMES)
    with pytest.raises(LrpEdgeError, match="'expozure' is not known; did you mean exposure"):
        check_parameters(address, ("exposure", "gain"))
    with pytest.raises(LrpEdgeError, match="'expozure' is not known; expected one of gain, fps"):
        check_parameters(address, ("gain", "fps"))
    check_parameters(address, ("expozure",))


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("2.5", 2.5), ("1e3", 1000)])
def test_numbers(text: str, value: float) -> None:
    assert number(parse(f"csi://0?gain={text}", SCHEMES), "gain") == value
    assert number(parse(f"csi://0?gain={text}", SCHEMES), "exposure") is None


@pytest.mark.parametrize("text", ["", "-1", "inf", "nan", "1,5", "0x10"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(LrpEdgeError, match=f"gain is '{text}'; expected a number of 0 or more"):
        number(parse(f"csi://0?gain={text}", SCHEMES), "gain")


secrets = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12).map(lambda text: text + MARK)


@given(user=secrets, password=secrets, scheme=st.sampled_from(["rtsp", "rtsps", "http", "https"]))
def test_no_user_and_password_is_told(user: str, password: str, scheme: str) -> None:
    address = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@camera:554/stream?channel=1"
    assert parse(address, SCHEMES).name == f"{scheme}://***@camera:554/stream?channel=1"
    assert parse(address, SCHEMES).has_password


@pytest.mark.parametrize("password", ["s3cr#t9", "s3cr/t9", "s3cr?t9", "s3 crt9", "12#t9", "a@b/t9", "/t9", "a\tt9"])
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_password_that_ends_too_early_is_to_be_escaped(scheme: str, password: str) -> None:
    text = f"{scheme}://admin:{password}@camera:554/live"
    if password == "a@b/t9":
        # The host might be b; that it is not shows when it is asked.
        assert not has_raw_password(text, surely=True)
        assert has_raw_password(text)
        return
    said = r"^[^\n]*must be written as %2F %3F %23 %40 %20[^\n]*--credentials FILE$"
    with pytest.raises(LrpEdgeError, match=said) as caught:
        open_source(text)
    assert f"source {scheme}://***@camera:554/live" in str(caught.value)
    assert "t9" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://camera:554/stream@1",
        "rtsp://u:p@camera/stream",
        "http://[::1]:80/a@b?c=d@e",
        "rtsp://camera/a b",
        "rtsp://u:a%20b@camera#transport=udp",
        "http://camera/a#b",
    ],
)
def test_what_is_an_address_is_no_password(text: str) -> None:
    assert not has_raw_password(text, surely=True)
    assert parse(text, SCHEMES).text == text


def test_an_address_that_may_be_a_password_says_so_when_it_does_not_open() -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    said = r"^rtsp://\*\*\*@127.0.0.1:9/x cannot be opened: .*must be written as %2F"
    with pytest.raises(SourceLost, match=said) as caught:
        next(iter(open_source("rtsp://admin:1/Xy7@127.0.0.1:9/x")))
    assert MARK not in str(caught.value)


@given(user=secrets.filter(lambda text: ":" not in text and text == text.strip()), password=secrets)
def test_credentials_of_a_file_are_put_into_the_address(
    tmp_path_factory: pytest.TempPathFactory, user: str, password: str
) -> None:
    if len(f"{user}:{password}".splitlines()) > 1:
        return
    file = tmp_path_factory.mktemp("credentials") / "camera.txt"
    file.write_text(f"{user}:{password}\nnot this\n", encoding="utf-8")
    parts = urlsplit(with_credentials(parse("rtsp://camera:554/x?channel=1", SCHEMES), file))
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    assert (parts.hostname, parts.port, parts.path, parts.query) == ("camera", 554, "/x", "channel=1")
    assert credentials(parse("rtsp://camera/x", SCHEMES), file) == (user, password)


def test_which_credentials_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "camera.txt"
    file.write_text("filed:one\n")
    plain, own = parse("rtsp://camera/x", SCHEMES), parse("rtsp://own:zero@camera/x", SCHEMES)
    assert with_credentials(plain, None) == "rtsp://camera/x"
    monkeypatch.setenv("LRP_EDGE_SOURCE_USER", "kept")
    monkeypatch.setenv("LRP_EDGE_SOURCE_PASSWORD", "p@ss")
    assert with_credentials(plain, None) == "rtsp://kept:p%40ss@camera/x"
    assert with_credentials(plain, file) == "rtsp://filed:one@camera/x"
    assert with_credentials(own, file) == own.text
    assert credentials(own, file) == ("own", "zero")
    assert with_credentials(parse("rtsp://user@camera/x", SCHEMES), file) == "rtsp://filed:one@camera/x"
    assert with_credentials(parse("http://[::1]:80/x", SCHEMES), file) == "http://filed:one@[::1]:80/x"


@pytest.mark.parametrize("content", [None, "", "only-a-user", ":password", "\nuser:password"])
def test_a_file_without_credentials(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "camera.txt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(LrpEdgeError, match=r"camera\.txt: .*user"):
        with_credentials(parse("rtsp://camera/x", SCHEMES), file)


def test_a_password_in_the_address_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        open_source(f"http://user:{MARK}@127.0.0.1:1/x")
    assert "rtsp" not in caplog.text
    assert "http://***@127.0.0.1:1/x: the password in the address can be seen by others" in caplog.text
    assert MARK not in caplog.text


@pytest.mark.parametrize("text", ["gst://a ! b caps=x,list=[1,2] ! [c", "gst://a [ b"])
def test_brackets_of_a_pipeline_are_no_host(text: str) -> None:
    assert not parse(text, SCHEMES).has_password


def test_a_path_has_no_password() -> None:
    assert not Address("", "a:b@c", {}, "a:b@c").has_password


def test_brackets_of_a_host_that_are_not_in_pairs() -> None:
    with pytest.raises(LrpEdgeError, match=r"http://\[::1/x is not an address"):
        open_source("http://[::1/x")
