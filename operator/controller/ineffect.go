package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/resources"
)

// inEffect compares what members of the newest revision say that they run with
// with what was derived from the spec: how many agree, and the first difference.
// Members that do not tell are not judged.
func (o *observation) inEffect() (agree int32, difference string) {
	for _, ordinal := range ordinals(o.pods) {
		s, ok := o.status(ordinal)
		if !ok || s.Settings == "" || o.world.Set == nil || o.world.Pods[ordinal].Revision != o.world.Set.Revision {
			continue
		}
		switch d := settingsDifference(o.tuning, s.Settings); {
		case d == "":
			agree++
		case difference == "":
			difference = fmt.Sprintf("member %s runs with %s", resources.PodName(o.cluster.Name, ordinal), d)
		}
	}
	return agree, difference
}

// settingsDifference names the first setting that is not as wanted; empty when
// all are. Where no limit is wanted for the Go heap, the server may have its own.
func settingsDifference(wanted v1alpha1.EffectiveTuning, told string) string {
	var is v1alpha1.EffectiveTuning
	if err := json.Unmarshal([]byte(told), &is); err != nil {
		return fmt.Sprintf("settings that cannot be read: %v", err)
	}
	is.QuotaBackendBytes, wanted.QuotaBackendBytes = 0, 0 // in the status itself
	if wanted.GoMemLimitBytes == 0 {
		is.GoMemLimitBytes = 0
	}
	want, have := flat(wanted), flat(is)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !strings.EqualFold(want[name], have[name]) {
			return fmt.Sprintf("%s %s, wanted is %s", name, have[name], want[name])
		}
	}
	return ""
}

// flat is each setting's text by its name.
func flat(t v1alpha1.EffectiveTuning) map[string]string {
	out := map[string]string{"goMemLimitBytes": fmt.Sprint(t.GoMemLimitBytes)}
	if t.RocksDB == nil {
		return out
	}
	text, err := json.Marshal(t.RocksDB)
	if err != nil {
		panic("settings: " + err.Error()) // numbers and words only
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &fields); err != nil {
		panic("settings: " + err.Error())
	}
	for name, value := range fields {
		out["rocksdb."+name] = strings.Trim(string(value), `"`)
	}
	return out
}
