// Command twin is the Go peer of the operator in benchmarks: the same children of the same Agents, applied server side
// from templates, with typed caches, drift repair and a status, as controller-runtime projects usually do it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	fieldManager = "openclaw-twin"
	agentLabel   = "openclaw.io/agent"
)

type reconciler struct {
	client    client.Client
	scheme    *runtime.Scheme
	templates *templates
	parallel  int
}

// Reconcile applies the children that differ from what is wanted, then reports.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	agent := &Agent{}
	if err := r.client.Get(ctx, request.NamespacedName, agent); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if agent.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	children, err := r.templates.render(agent, r.scheme)
	if err != nil {
		return ctrl.Result{}, err
	}
	var wanted, bindings []child
	status := agent.Status.deepCopy()
	for _, each := range children {
		live, err := newObject(r.scheme, each.kind)
		if err != nil {
			return ctrl.Result{}, err
		}
		err = r.client.Get(ctx, client.ObjectKeyFromObject(each.desired), live)
		if err != nil && !apierrors.IsNotFound(err) {
			return ctrl.Result{}, err
		}
		if deployment, ok := live.(*appsv1.Deployment); ok {
			status.Replicas, status.ReadyReplicas = deployment.Status.Replicas, deployment.Status.ReadyReplicas
		}
		if err == nil {
			same, err := contains(live, each.desired)
			if err != nil {
				return ctrl.Result{}, err
			}
			if same {
				continue
			}
		}
		if each.kind.Kind == "RoleBinding" {
			// Refused while its Role is missing.
			bindings = append(bindings, each)
		} else {
			wanted = append(wanted, each)
		}
	}
	for _, batch := range [][]child{wanted, bindings} {
		if err := r.apply(ctx, batch); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.report(ctx, agent, status)
}

// apply sends some children of one Agent at the same time.
func (r *reconciler) apply(ctx context.Context, children []child) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.parallel)
	for _, each := range children {
		group.Go(func() error {
			target := each.desired.DeepCopyObject().(client.Object)
			patch := client.RawPatch(types.ApplyPatchType, each.raw)
			return r.client.Patch(ctx, target, patch, client.FieldOwner(fieldManager), client.ForceOwnership)
		})
	}
	return group.Wait()
}

// report patches the status where it changed.
func (r *reconciler) report(ctx context.Context, agent *Agent, status AgentStatus) error {
	status.ObservedGeneration = agent.Generation
	ready := metav1.Condition{
		Type: "Ready", Status: metav1.ConditionFalse, Reason: "Progressing", Message: "0/1 gateway pods are ready",
		ObservedGeneration: agent.Generation,
	}
	if status.ReadyReplicas > 0 {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionTrue, "Ready", "the gateway is ready"
	}
	meta.SetStatusCondition(&status.Conditions, ready)
	if reflect.DeepEqual(agent.Status, status) {
		return nil
	}
	before := agent.DeepCopyObject().(client.Object)
	agent.Status = status
	return client.IgnoreNotFound(r.client.Status().Patch(ctx, agent, client.MergeFrom(before)))
}

// agentOf finds the Agent of a child by its label: volumes that outlive their Agent have no owner reference.
func agentOf(_ context.Context, object client.Object) []ctrl.Request {
	name, ok := object.GetLabels()[agentLabel]
	if !ok {
		return nil
	}
	return []ctrl.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

func run(ctx context.Context, kubeconfig, templatePath string, workers, parallel int) error {
	loaded, err := loadTemplates(templatePath)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	config.UserAgent = fieldManager
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	addToScheme(scheme)
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
	})
	if err != nil {
		return err
	}
	builder := ctrl.NewControllerManagedBy(manager).
		For(&Agent{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers})
	for _, kind := range loaded.kinds() {
		object, err := newObject(scheme, kind)
		if err != nil {
			return err
		}
		builder = builder.Watches(object, handler.EnqueueRequestsFromMapFunc(agentOf))
	}
	if err := builder.Complete(&reconciler{manager.GetClient(), scheme, loaded, parallel}); err != nil {
		return err
	}
	return manager.Start(ctx)
}

func main() {
	kubeconfig := flag.String("twin-kubeconfig", "", "path of a kubeconfig")
	templatePath := flag.String("templates", "", "path of the templates the benchmark wrote")
	workers := flag.Int("workers", 16, "Agents reconciled at the same time")
	parallel := flag.Int("parallel", 4, "children of one Agent applied at the same time")
	flag.Parse()
	ctrl.SetLogger(klog.Background())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *templatePath, *workers, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "twin:", err)
		os.Exit(1)
	}
}
