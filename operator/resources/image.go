package resources

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/version"

	"metastore.io/metastore/api/v1alpha1"
)

// DefaultServerImage is what members run unless the operator or the spec names another.
const DefaultServerImage = "metastore.io/metastore:0.1.0"

// Image is the image that members run: the spec's, or the operator's default;
// with the spec's version as its tag where the reference may take one.
func Image(spec *v1alpha1.MetaStoreClusterSpec, serverImage string) string {
	repository, tag, pinned := split(serverImage)
	if spec.Image != "" {
		own, ownTag, ownPinned := split(spec.Image)
		if ownPinned || ownTag != "" {
			return spec.Image
		}
		repository, pinned = own, false
	}
	if spec.Version != "" {
		tag, pinned = spec.Version, false
	}
	switch {
	case pinned:
		return serverImage
	case tag == "":
		return repository
	}
	return repository + ":" + tag
}

// AtLeast is the image, or that of the running version in its place where the
// image's tag is an older version. A tag that is no version stays.
func AtLeast(image, running string) string {
	repository, tag, _ := split(image)
	has, err := version.ParseSemantic(tag)
	if err != nil {
		return image
	}
	is, err := version.ParseSemantic(running)
	if err != nil || has.AtLeast(is) {
		return image
	}
	if strings.HasPrefix(tag, "v") {
		running = "v" + running
	}
	return repository + ":" + running
}

// split takes a reference apart; pinned says that it has a digest.
func split(reference string) (repository, tag string, pinned bool) {
	name, _, pinned := strings.Cut(reference, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		return name[:colon], name[colon+1:], pinned
	}
	return name, "", pinned
}
