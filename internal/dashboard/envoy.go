package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"sentinel-envoy/internal/configfile"
	"sentinel-envoy/internal/envoytest"
	"sentinel-envoy/shared/config"
)

// filter is what an Envoy has been told about one of our filters.
type filter struct {
	kind config.Kind
	cfg  *config.Config
}

// filtersOf reads from the admin page what filters of ours an Envoy has, those of ECDS included.
func filtersOf(ctx context.Context, admin *envoytest.Admin) ([]filter, error) {
	text, err := admin.Get(ctx, "/config_dump")
	if err != nil {
		return nil, err
	}
	return filtersIn([]byte(text))
}

// filtersIn finds the filters in what /config_dump says.
func filtersIn(dump []byte) ([]filter, error) {
	var all any
	d := json.NewDecoder(bytes.NewReader(dump))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return nil, fmt.Errorf("admin /config_dump: %w", err)
	}
	var found []filter
	seen := map[string]bool{}
	for _, plugin := range plugins(all, nil) {
		text, err := json.Marshal(plugin)
		if err != nil {
			return nil, err
		}
		if seen[string(text)] { // one filter on several listeners
			continue
		}
		seen[string(text)] = true
		docs, err := configfile.Read(text)
		if err != nil || len(docs) != 1 {
			return nil, fmt.Errorf("admin /config_dump: %w", err)
		}
		for _, f := range configfile.Find(docs[0], config.KindHTTP) {
			// What the filter itself has refused is not in force.
			if cfg, err := config.Parse(f.JSON(), f.Kind); f.Problem == "" && err == nil {
				found = append(found, filter{f.Kind, cfg})
			}
		}
	}
	return found, nil
}

// notInForce are the states of what is replaced, is not yet, or was refused.
var notInForce = []string{"draining_state", "warming_state", "error_state"}

// plugins appends the objects with a root_id of ours in a JSON, at any depth.
func plugins(v any, found []any) []any {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			found = plugins(one, found)
		}
	case map[string]any:
		if id, _ := v["root_id"].(string); id == "sentinel_http" || id == "sentinel_tcp" {
			return append(found, v)
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if !slices.Contains(notInForce, key) {
				found = plugins(v[key], found)
			}
		}
	}
	return found
}
