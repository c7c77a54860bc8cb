// Package bench is a load generator for servers of etcd's v3 API.
//
// A scenario is what one run does: most send single requests in a closed loop,
// in which every slot sends its next request when the reply to the last one was
// checked. Requests are functions of the seed, so that two servers are asked the
// same. A reply that is wrong is an error as much as one that is refused.
//
// The client is server/bench/lean, whose cost hardly hides what a server can do,
// or clientv3, which is what programs use. The loader measures its own CPU time
// and, of servers on the same machine, theirs.
//
// It imports no room of ours: nothing in it knows which server it measures.
package bench
