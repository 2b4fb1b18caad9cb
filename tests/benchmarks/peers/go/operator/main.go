// The Go peer of the operator: a minimal controller-runtime operator that makes the same children of an EventEngine.
//
// It watches what it owns through typed, shared informers, compares what is wanted with the informers' caches, applies
// what differs on the server's side, and writes a Ready condition. There is no autoscaling, no pinning, no hand-over of
// replicas, no back-off for refused pods and no certificate; it reads nothing that its caches don't hold.
package main

import (
	"flag"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	templates := flag.String("templates", "", "file with the children of an EventEngine, as JSON")
	metrics := flag.String("metrics", "127.0.0.1:0", "address of the metrics")
	namespace := flag.String("namespace", "default", "namespace of the Lease")
	callsPerSecond := flag.Float64("calls-per-second", 20, "calls to the API server")
	burst := flag.Int("burst", 30, "calls at once after a rest")
	workers := flag.Int("workers", 4, "EventEngines reconciled at the same time")
	flag.Parse()
	ctrl.SetLogger(zap.New())
	if err := run(*templates, *metrics, *namespace, float32(*callsPerSecond), *burst, *workers); err != nil {
		ctrl.Log.Error(err, "the operator ended")
		os.Exit(1)
	}
}

func run(templates, metrics, namespace string, callsPerSecond float32, burst, workers int) error {
	children, err := readTemplates(templates)
	if err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = callsPerSecond, burst
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        clientgoscheme.Scheme,
		Metrics:                       server.Options{BindAddress: metrics},
		Client:                        client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		LeaderElection:                true,
		LeaderElectionID:              "operator-peer",
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return err
	}
	engine := &unstructured.Unstructured{}
	engine.SetGroupVersionKind(engineKind)
	err = ctrl.NewControllerManagedBy(manager).
		Named("eventengine").
		For(engine).
		Owns(&appsv1.Deployment{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&corev1.Service{}).
		Owns(&networkingv1.NetworkPolicy{}).
		Owns(&policyv1.PodDisruptionBudget{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(&reconciler{Client: manager.GetClient(), children: children})
	if err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
