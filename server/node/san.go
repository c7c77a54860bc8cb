package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// originCheck compares a caller's certificate with where the caller comes from,
// as etcd does for peers; nil where that is switched off.
func originCheck(info *transport.TLSInfo) func(context.Context, *tls.Conn) error {
	if info.SkipClientSANVerify {
		return nil
	}
	return func(ctx context.Context, conn *tls.Conn) error {
		certs := conn.ConnectionState().PeerCertificates
		if len(certs) == 0 || len(certs[0].IPAddresses) == 0 && len(certs[0].DNSNames) == 0 {
			return nil
		}
		host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
		if err != nil {
			return err
		}
		return checkOrigin(ctx, certs[0], host)
	}
}

// checkOrigin wants the address among those of the certificate, or one of the
// certificate's names to belong to it.
func checkOrigin(ctx context.Context, cert *x509.Certificate, host string) error {
	var err error
	if len(cert.IPAddresses) > 0 {
		if err = cert.VerifyHostname(host); err == nil {
			return nil
		}
	}
	if len(cert.DNSNames) == 0 {
		return err
	}
	ok, err := hasName(ctx, host, cert.DNSNames)
	if ok {
		return nil
	}
	return errors.Join(fmt.Errorf("tls: %q does not match any of DNSNames %q", host, cert.DNSNames), err)
}

// hasName asks DNS: for the names of an address, where *. stands for anything
// before the rest as with etcd, and then for the addresses of the names.
func hasName(ctx context.Context, host string, dnsNames []string) (bool, error) {
	found, err := net.DefaultResolver.LookupAddr(ctx, host)
	for _, name := range found {
		name = strings.TrimSuffix(name, ".")
		for _, dns := range dnsNames {
			rest, wild := strings.CutPrefix(dns, "*")
			if dns == name || wild && strings.HasPrefix(rest, ".") && strings.HasSuffix(name, rest) {
				return true, nil
			}
		}
	}
	for _, dns := range dnsNames {
		if strings.HasPrefix(dns, "*.") {
			continue
		}
		addresses, lookupErr := net.DefaultResolver.LookupHost(ctx, dns)
		if lookupErr != nil {
			err = lookupErr
		}
		if slices.Contains(addresses, host) {
			return true, nil
		}
	}
	return false, err
}
