package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// templates is the file the benchmark writes: the children of one Agent with placeholders for what differs between Agents.
type templates struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	UID       string            `json:"uid"`
	Children  []json.RawMessage `json:"children"`

	parsed []template
}

type template struct {
	kind schema.GroupVersionKind
	text string
}

// child is one object of one Agent: the bytes to apply and the same as a typed object to compare with.
type child struct {
	kind    schema.GroupVersionKind
	raw     []byte
	desired client.Object
}

func loadTemplates(path string) (*templates, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t := &templates{}
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, raw := range t.Children {
		var meta struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if err := json.Unmarshal(raw, &meta); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		t.parsed = append(t.parsed, template{schema.FromAPIVersionAndKind(meta.APIVersion, meta.Kind), string(raw)})
	}
	return t, nil
}

// kinds returns every kind of child once.
func (t *templates) kinds() []schema.GroupVersionKind {
	seen := map[schema.GroupVersionKind]bool{}
	var kinds []schema.GroupVersionKind
	for _, each := range t.parsed {
		if !seen[each.kind] {
			seen[each.kind] = true
			kinds = append(kinds, each.kind)
		}
	}
	return kinds
}

// render builds the children of one Agent.
func (t *templates) render(agent *Agent, scheme *runtime.Scheme) ([]child, error) {
	values := strings.NewReplacer(t.Name, agent.Name, t.Namespace, agent.Namespace, t.UID, string(agent.UID))
	children := make([]child, 0, len(t.parsed))
	for _, each := range t.parsed {
		raw := []byte(values.Replace(each.text))
		object, err := newObject(scheme, each.kind)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, object); err != nil {
			return nil, fmt.Errorf("%s: %w", each.kind.Kind, err)
		}
		children = append(children, child{each.kind, raw, object})
	}
	return children, nil
}

func newObject(scheme *runtime.Scheme, kind schema.GroupVersionKind) (client.Object, error) {
	object, err := scheme.New(kind)
	if err != nil {
		return nil, err
	}
	typed, ok := object.(client.Object)
	if !ok {
		return nil, fmt.Errorf("%s is not an object", kind)
	}
	return typed, nil
}
