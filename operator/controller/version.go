package controller

import (
	"cmp"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
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

// notedImage is the image that the StatefulSet was given; what it has may be a
// webhook's.
func (o *observation) notedImage() string {
	if o.set != nil {
		if _, image, ok := strings.Cut(o.set.Annotations[annotationImage], " "); ok {
			return image
		}
	}
	return o.image()
}

// imageBase completes what the spec says of the image. Where it names neither
// image nor version, that is the one that the cluster keeps, so that an operator
// with another default restarts nobody.
func imageBase(c *v1alpha1.MetaStoreCluster, running, serverImage string) string {
	switch {
	case c.Spec.Version != "":
		return serverImage
	case c.Spec.Image != "":
		return cmp.Or(running, serverImage)
	}
	return cmp.Or(c.Status.DefaultImage, running, serverImage)
}

// defaultImage is the imageBase of an observation. The way back from an image
// that the spec no longer names leads to no older version than members run.
func (r *Reconciler) defaultImage(o *observation) string {
	c := o.cluster
	image := imageBase(c, o.image(), r.ServerImage)
	if namesNone(&c.Spec) && c.Status.DefaultImage != "" && o.notedImage() != image {
		return resources.AtLeast(image, o.newestVersion())
	}
	return image
}

// keptImage is what the cluster will run once its spec names neither image nor
// version: what it ran the last time that the spec named no image, all members
// of it; before, what it began with.
func (r *Reconciler) keptImage(o *observation) string {
	spec := &o.cluster.Spec
	switch {
	case namesNone(spec):
		return r.defaultImage(o)
	case spec.Image == "" && o.allRun(resources.Image(spec, r.ServerImage)):
		return resources.Image(spec, r.ServerImage)
	}
	return cmp.Or(o.cluster.Status.DefaultImage, r.ServerImage)
}

func namesNone(s *v1alpha1.MetaStoreClusterSpec) bool { return s.Image == "" && s.Version == "" }

// allRun says that every member is ready with an image.
func (o *observation) allRun(image string) bool {
	return o.notedImage() == image && o.upToDate().status == metav1.ConditionTrue && o.allMembersReady().status == metav1.ConditionTrue
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
