package bench

import "time"

// usage is what processes have used so far.
type usage struct {
	at     time.Time
	client time.Duration // CPU time of this process
	server process       // sum of the servers'
}

// process is what a server has used.
type process struct {
	cpu          time.Duration
	rss, rssPeak int64 // bytes
	written      int64 // bytes to disks
}

func readUsage(pids []int) (u usage, err error) {
	u.at = time.Now()
	u.client = ownCPU()
	for _, pid := range pids {
		p, err := readProcess(pid)
		if err != nil {
			return u, err
		}
		u.server.cpu += p.cpu
		u.server.rss += p.rss
		u.server.rssPeak += p.rssPeak
		u.server.written += p.written
	}
	return u, nil
}
