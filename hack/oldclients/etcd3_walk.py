"""A little of everything that Python's etcd3 can, against HOST:PORT."""
import sys
import threading

import etcd3

host, port = sys.argv[1].split(":")
c = etcd3.client(host=host, port=int(port), timeout=20)

c.put("py/a", "1")
c.put("py/a", "2")
value, meta = c.get("py/a")
assert value == b"2" and meta.version >= 2, (value, meta.version)
c.put("py/b", "b")
assert [v for v, _ in c.get_prefix("py/", sort_order="descend")] == [b"b", b"2"]
assert c.delete("py/b") and not c.delete("py/b")
assert c.replace("py/a", "2", "3") and not c.replace("py/a", "2", "4")
done, answers = c.transaction(
    compare=[c.transactions.value("py/a") == "3", c.transactions.version("py/none") == 0],
    success=[c.transactions.put("py/a", "5"), c.transactions.get("py/a")],
    failure=[],
)
assert done and answers[1][0][0] == b"5", answers

events, cancel = c.watch("py/w")
c.put("py/w", "seen")
c.delete("py/w")
assert next(events).value == b"seen"
assert isinstance(next(events), etcd3.events.DeleteEvent)
cancel()

lease = c.lease(60)
c.put("py/l", "", lease=lease)
assert lease.granted_ttl == 60 and lease.keys == [b"py/l"] and list(lease.refresh())[0].TTL == 60
lease.revoke()
assert c.get("py/l")[0] is None

with c.lock("py", ttl=20) as lock:
    assert lock.is_acquired()
    other = c.lock("py", ttl=20)
    waits = threading.Thread(target=lambda: other.acquire(timeout=30))
    waits.start()
waits.join()
assert other.is_acquired() and other.release()

revision = c.get_response("py/a").header.revision
c.compact(revision)
assert len(list(c.members)) == 1 and c.status().leader.id == list(c.members)[0].id
c.defragment()
assert c.hash() is not None and list(c.list_alarms()) == []
with open("/dev/null", "wb") as f:
    c.snapshot(f)

c.lease(60, lease_id=7)
try:
    c.lease(60, lease_id=7)
    raise AssertionError("a lease was granted twice")
except etcd3.exceptions.PreconditionFailedError:
    c.revoke_lease(7)
