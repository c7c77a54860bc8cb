"""A little of everything that Python's etcd3gw can, against HOST:PORT."""
import sys
import threading

import etcd3gw
from etcd3gw.exceptions import Etcd3Exception

host, port = sys.argv[1].split(":")
# By itself this version asks below /v3alpha/, which etcd no longer has either.
c = etcd3gw.Etcd3Client(host=host, port=int(port), timeout=20, api_path="/v3/")

assert c.status()["version"] and len(c.members()) == 1
assert c.put("gw/a", "1") and c.put("gw/a", "2")
value, meta = c.get("gw/a", metadata=True)[0]
assert value == b"2" and int(meta["version"]) >= 2, meta
assert c.create("gw/new", "x") and not c.create("gw/new", "y")
assert c.replace("gw/a", "2", "3") and not c.replace("gw/a", "2", "4")
assert len(c.get_prefix("gw/")) == 2 and c.get("gw/none") == []
assert c.delete("gw/new") and not c.delete("gw/new")

# A watch through the gateway is one answer that does not end.
threading.Timer(0.5, lambda: c.put("gw/w", "seen")).start()
event = c.watch_once("gw/w", timeout=20)
assert event["kv"]["value"] == b"seen", event

lease = c.lease(ttl=60)
assert c.put("gw/l", "", lease=lease)
assert lease.ttl() > 50 and lease.keys() == [b"gw/l"] and int(lease.refresh()) == 60
assert lease.revoke() and c.get("gw/l") == []

with c.lock("gw", ttl=20) as lock:
    assert lock.is_acquired() and not c.lock("gw", ttl=20).acquire()

answer = c.transaction({
    "compare": [{"key": "Z3cvYQ==", "target": "VALUE", "value": "Mw==", "result": "EQUAL"}],
    "success": [{"request_put": {"key": "Z3cvYQ==", "value": "NQ=="}}],
})
assert answer["succeeded"] and c.get("gw/a") == [b"5"], answer
try:
    c.post(c.get_url("/kv/range"), json={"key": ""})
    raise AssertionError("an empty key was read")
except Etcd3Exception as e:
    assert "key is not provided" in e.detail_text, e.detail_text
