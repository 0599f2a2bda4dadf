package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var agentVersion = schema.GroupVersion{Group: "openclaw.io", Version: "v1alpha1"}

// Agent holds what the twin reads and writes of an Agent; its spec is already in the templates.
type Agent struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Status AgentStatus `json:"status,omitempty"`
}

// AgentStatus is the part of the status every operator writes.
type AgentStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Replicas           int32              `json:"replicas"`
	ReadyReplicas      int32              `json:"readyReplicas"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

// AgentList is what the cache lists.
type AgentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Agent `json:"items"`
}

func (in *AgentStatus) deepCopy() AgentStatus {
	out := *in
	out.Conditions = nil
	for i := range in.Conditions {
		out.Conditions = append(out.Conditions, *in.Conditions[i].DeepCopy())
	}
	return out
}

// DeepCopyObject implements runtime.Object.
func (in *Agent) DeepCopyObject() runtime.Object {
	out := &Agent{TypeMeta: in.TypeMeta, Status: in.Status.deepCopy()}
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return out
}

// DeepCopyObject implements runtime.Object.
func (in *AgentList) DeepCopyObject() runtime.Object {
	out := &AgentList{TypeMeta: in.TypeMeta}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range in.Items {
		out.Items = append(out.Items, *in.Items[i].DeepCopyObject().(*Agent))
	}
	return out
}

func addToScheme(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(agentVersion, &Agent{}, &AgentList{})
	metav1.AddToGroupVersion(scheme, agentVersion)
}
