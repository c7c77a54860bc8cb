package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/server/v3/proxy/tcpproxy"
	"go.uber.org/zap"
)

// Gateway forwards TCP connections to members that answer.
type Gateway struct {
	ListenAddr string
	Discovery  Discovery
	// Endpoints count where discovery finds none.
	Endpoints []string
	// RetryDelay is how long a member is left alone after it did not answer.
	RetryDelay time.Duration
}

// Run forwards until the context ends.
func (g Gateway) Run(ctx context.Context, lg *zap.Logger) error {
	records, err := g.records(lg)
	if err != nil {
		return err
	}
	if err := checkLoop(g.ListenAddr, records); err != nil {
		return err
	}
	l, err := net.Listen("tcp", g.ListenAddr)
	if err != nil {
		return err
	}
	p := &tcpproxy.TCPProxy{Logger: lg, Listener: l, Endpoints: records, MonitorInterval: g.RetryDelay}
	ended := make(chan error, 1)
	go func() { ended <- p.Run() }()
	select {
	case err := <-ended:
		return fmt.Errorf("gateway: %w", err)
	case <-ctx.Done():
		p.Stop() // connections end with the process
		lg.Debug("gateway ended", zap.Error(<-ended))
		return nil
	}
}

func (g Gateway) records(lg *zap.Logger) ([]*net.SRV, error) {
	_, records, err := g.Discovery.find(lg)
	if err != nil || len(records) > 0 {
		return records, err
	}
	for _, ep := range g.Endpoints {
		r, err := recordOf(ep)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	if len(records) == 0 {
		return nil, errors.New("no endpoints found")
	}
	return records, nil
}

// checkLoop refuses to forward to the address that is listened on.
func checkLoop(listen string, records []*net.SRV) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("failed to validate listen address: %s: %w", listen, err)
	}
	own, err := net.LookupHost(host)
	if err != nil {
		return fmt.Errorf("failed to resolve listen host: %s: %w", host, err)
	}
	for _, r := range records {
		addrs, err := net.LookupHost(r.Target)
		if err != nil {
			return fmt.Errorf("failed to resolve endpoint host: %s: %w", r.Target, err)
		}
		if strconv.Itoa(int(r.Port)) != port {
			continue
		}
		for _, a := range addrs {
			if slices.Contains(own, a) {
				return fmt.Errorf("SRV or endpoint (%s:%d->%s:%d) should not resolve to the gateway listen addr (%s)", r.Target, r.Port, a, r.Port, listen)
			}
		}
	}
	return nil
}
