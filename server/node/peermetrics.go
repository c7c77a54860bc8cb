package node

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metastore.io/metastore/server/peer"
)

// peerMetrics observe what passes between this member, whose ID is set before it
// is used, and each other one.
type peerMetrics struct {
	self string

	active                                        *prometheus.GaugeVec
	disconnected                                  *prometheus.CounterVec
	sent, received, sendFailures, receiveFailures *prometheus.CounterVec
	roundTrip                                     *prometheus.HistogramVec
	sends, receives                               transferMetrics
}

// transferMetrics observe snapshots in one direction.
type transferMetrics struct {
	succeeded, failed *prometheus.CounterVec
	inflight          *prometheus.GaugeVec
	took              *prometheus.HistogramVec
}

func newPeerMetrics() *peerMetrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "etcd_network_" + name, Help: help}, labels)
	}
	return &peerMetrics{
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "etcd_network_active_peers", Help: "The current number of active peer connections.",
		}, []string{"Local", "Remote"}),
		disconnected:    counter("disconnected_peers_total", "The total number of disconnected peers.", "Local", "Remote"),
		sent:            counter("peer_sent_bytes_total", "The total number of bytes sent to peers.", "To"),
		received:        counter("peer_received_bytes_total", "The total number of bytes received from peers.", "From"),
		sendFailures:    counter("peer_sent_failures_total", "The total number of send failures from peers.", "To"),
		receiveFailures: counter("peer_received_failures_total", "The total number of receive failures from peers.", "From"),
		roundTrip: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "etcd_network_peer_round_trip_time_seconds", Help: "Round-Trip-Time histogram between peers",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}, []string{"To"}),
		sends:    newTransferMetrics("send", "sends", "To"),
		receives: newTransferMetrics("receive", "receives", "From"),
	}
}

func newTransferMetrics(verb, nouns, label string) transferMetrics {
	name, labels := "etcd_network_snapshot_"+verb, []string{label}
	return transferMetrics{
		succeeded: prometheus.NewCounterVec(prometheus.CounterOpts{Name: name + "_success", Help: "Total number of successful snapshot " + nouns}, labels),
		failed:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: name + "_failures", Help: "Total number of snapshot " + verb + " failures"}, labels),
		inflight:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name + "_inflights_total", Help: "Total number of inflight snapshot " + nouns}, labels),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name + "_total_duration_seconds", Help: "Total latency distributions of v3 snapshot " + nouns,
			Buckets: prometheus.ExponentialBuckets(0.1, 2, 10),
		}, labels),
	}
}

func (m transferMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.succeeded, m.failed, m.inflight, m.took}
}

// begin tells of a snapshot under way and gives whom to tell how it ended.
func (m transferMetrics) begin(id string) (ended func(error)) {
	begin := time.Now()
	m.inflight.WithLabelValues(id).Inc()
	return func(err error) {
		m.inflight.WithLabelValues(id).Dec()
		if err != nil {
			m.failed.WithLabelValues(id).Inc()
			return
		}
		m.succeeded.WithLabelValues(id).Inc()
		m.took.WithLabelValues(id).Observe(time.Since(begin).Seconds())
	}
}

func (m *peerMetrics) all() []prometheus.Collector {
	own := []prometheus.Collector{m.active, m.disconnected, m.sent, m.received, m.sendFailures, m.receiveFailures, m.roundTrip}
	return append(append(own, m.sends.all()...), m.receives.all()...)
}

// Peer resolves what every message needs. What only has a value once it happens
// is looked up then.
func (m *peerMetrics) Peer(id uint64) peer.PeerObserver {
	other := strconv.FormatUint(id, 16)
	return &onePeer{
		m: m, id: other,
		sent: m.sent.WithLabelValues(other), received: m.received.WithLabelValues(other), roundTrip: m.roundTrip.WithLabelValues(other),
	}
}

type onePeer struct {
	m              *peerMetrics
	id             string
	sent, received prometheus.Counter
	roundTrip      prometheus.Observer
}

func (p *onePeer) Connected(now bool) {
	gauge := p.m.active.WithLabelValues(p.m.self, p.id)
	if now {
		gauge.Set(1)
		return
	}
	gauge.Set(0)
	p.m.disconnected.WithLabelValues(p.m.self, p.id).Inc()
}

func (p *onePeer) Sent(sizeBytes int, err error) {
	p.sent.Add(float64(sizeBytes))
	if err != nil {
		p.m.sendFailures.WithLabelValues(p.id).Inc()
	}
}

func (p *onePeer) Received(sizeBytes int, err error) {
	p.received.Add(float64(sizeBytes))
	if err != nil {
		p.m.receiveFailures.WithLabelValues(p.id).Inc()
	}
}

func (p *onePeer) RoundTrip(took time.Duration)  { p.roundTrip.Observe(took.Seconds()) }
func (p *onePeer) SendsSnapshot() func(error)    { return p.m.sends.begin(p.id) }
func (p *onePeer) ReceivesSnapshot() func(error) { return p.m.receives.begin(p.id) }
