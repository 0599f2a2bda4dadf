package main

import (
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// contains tells whether live has everything desired asks for; what others added or the API server set by default counts
// for nothing. Both went through the typed objects, so quantities and the like are spelled alike.
func contains(live, desired client.Object) (bool, error) {
	wanted, err := runtime.DefaultUnstructuredConverter.ToUnstructured(desired)
	if err != nil {
		return false, err
	}
	found, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
	if err != nil {
		return false, err
	}
	for _, absent := range []string{"apiVersion", "kind", "status"} {
		delete(wanted, absent)
	}
	return subset(wanted, found), nil
}

func subset(wanted, found any) bool {
	switch wanted := wanted.(type) {
	case nil:
		return true
	case map[string]any:
		found, ok := found.(map[string]any)
		if !ok {
			return len(wanted) == 0
		}
		for key, value := range wanted {
			if !subset(value, found[key]) {
				return false
			}
		}
		return true
	case []any:
		found, ok := found.([]any)
		if !ok || len(found) != len(wanted) {
			return len(wanted) == 0 && found == nil
		}
		for i := range wanted {
			if !subset(wanted[i], found[i]) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(wanted, found)
	}
}
