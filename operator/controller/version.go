package controller

import (
	"cmp"
	"strconv"
	"strings"

	"metastore.io/metastore/operator/resources"
)

// image is what new pods run: what the StatefulSet has, or had when it was last
// seen; empty before there was one.
func (o *observation) image() string {
	if o.set != nil {
		for _, c := range o.set.Spec.Template.Spec.Containers {
			if c.Name == resources.Container {
				return c.Image
			}
		}
	}
	return o.cluster.Status.Image
}

// defaultImage completes what the spec says of the image. Where it names no
// version, that is the image that runs already, so that an operator with another
// default restarts nobody.
func (r *Reconciler) defaultImage(o *observation) string {
	if running := o.image(); running != "" && o.cluster.Spec.Version == "" {
		return running
	}
	return r.ServerImage
}

// compareVersions orders versions such as 3.7.3 by their numbers; a part that is
// no number counts as 0.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		if c := cmp.Compare(part(as, i), part(bs, i)); c != 0 {
			return c
		}
	}
	return strings.Compare(a, b)
}

func part(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, err := strconv.Atoi(parts[i])
	if err != nil {
		return 0
	}
	return n
}
