package proxy

import (
	"fmt"
	"net"
	"net/url"
	"strconv"

	"go.etcd.io/etcd/client/pkg/v3/srv"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
)

// srvService is the name under which SRV records tell client URLs.
const srvService = "etcd-client"

// Discovery finds endpoints by the SRV records of a domain; without a domain
// there are none.
type Discovery struct {
	Domain, ServiceName string
	// Insecure takes what the records say. Otherwise only endpoints count that
	// show a certificate of TrustedCAFile for the domain.
	Insecure      bool
	TrustedCAFile string
}

// find returns the endpoints with their records, one for one.
func (d Discovery) find(lg *zap.Logger) (endpoints []string, records []*net.SRV, err error) {
	if d.Domain == "" {
		return nil, nil, nil
	}
	found, err := srv.GetClient(srvService, d.Domain, d.ServiceName)
	if err != nil {
		return nil, nil, fmt.Errorf("discover endpoints of %s: %w", d.Domain, err)
	}
	lg.Info("discovered cluster from SRV", zap.String("srv-server", d.Domain), zap.Strings("endpoints", found.Endpoints))
	if d.Insecure {
		return found.Endpoints, found.SRVs, nil
	}
	valid, err := transport.ValidateSecureEndpoints(transport.TLSInfo{TrustedCAFile: d.TrustedCAFile, ServerName: d.Domain}, found.Endpoints)
	if err != nil {
		lg.Warn("some discovered endpoints are not valid", zap.String("srv-server", d.Domain), zap.Error(err))
	}
	for i, ep := range found.Endpoints {
		for _, v := range valid {
			if v == ep {
				endpoints, records = append(endpoints, ep), append(records, found.SRVs[i])
				break
			}
		}
	}
	return endpoints, records, nil
}

// recordOf is the SRV record that an endpoint, with or without a scheme, stands
// for.
func recordOf(endpoint string) (*net.SRV, error) {
	address := endpoint
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		address = u.Host
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("error parsing endpoint %q: %w", endpoint, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("error parsing endpoint %q: %w", endpoint, err)
	}
	return &net.SRV{Target: host, Port: uint16(n)}, nil
}
