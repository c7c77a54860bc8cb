package tuning

import "k8s.io/apimachinery/pkg/api/resource"

func setBytes(to *int64, from *resource.Quantity) {
	if from != nil {
		*to = from.Value()
	}
}

func setInt(to *int32, from *int32) {
	if from != nil {
		*to = *from
	}
}

// percent is exact for every size that a machine can have: it divides first.
func percent(bytes int64, p int64) int64 { return bytes/100*p + bytes%100*p/100 }

func wholeMiB(bytes int64) int64 { return bytes / mib * mib }

// sized writes bytes as a user would.
func sized(bytes int64) string { return resource.NewQuantity(bytes, resource.BinarySI).String() }
