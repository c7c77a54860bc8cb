// Package watch fans the events of committed revisions out to watchers.
//
// It promises to every watcher that each matching event from its start
// revision on arrives exactly once and in order, whole revisions at a time,
// until it is cancelled, or told that its next revision is compacted; and to
// the publisher that no watcher can make it wait.
//
// A watcher is live or lagging. A live watcher is in the hub's index, and
// Publish puts its events into the bounded outbox of its stream. When the
// outbox is full the watcher leaves the index, remembers the first revision
// that did not fit, and lags: the goroutine that runs its stream replays
// history from there, off the write path. Once it has replayed everything that
// was published it goes back into the index, under the lock that Publish
// holds, so that no revision falls between the replay and the live events and
// none is in both.
//
// Revisions that are committed together are handed out together, as one run, and
// what waits in an outbox for one watcher becomes one response: the more there is
// to send, the fewer responses it takes. Watchers that get the same events share
// them, and their encoded form.
//
// The host publishes; rpc opens streams and runs them. The package knows
// nothing of gRPC.
package watch
