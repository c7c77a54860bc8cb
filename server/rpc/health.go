package rpc

import healthpb "google.golang.org/grpc/health/grpc_health_v1"

// allServices is the name under which the gRPC health service tells about all.
const allServices = ""

// setServing changes what the gRPC health service answers. Like etcd's it says
// SERVING as long as calls are answered at all; /readyz tells more.
func (s *Server) setServing(serving bool, reason string) {
	st := healthpb.HealthCheckResponse_SERVING
	tell := s.o.Logger.Info
	attrs := []any{"service", allServices}
	if !serving {
		st = healthpb.HealthCheckResponse_NOT_SERVING
		tell = s.o.Logger.Warn
		attrs = append(attrs, "reason", reason)
	}
	tell("grpc service status changed", append(attrs, "status", st.String())...)
	s.health.SetServingStatus(allServices, st)
}
