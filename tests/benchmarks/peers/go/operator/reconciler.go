package main

import (
	"context"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const fieldManager = "operator-peer"

var engineKind = schema.GroupVersionKind{Group: "eventengine.dev", Version: "v1alpha1", Kind: "EventEngine"}

type reconciler struct {
	client.Client
	children []string
}

// Reconcile brings the children of one EventEngine about and reports whether its pods are ready.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	engine := &unstructured.Unstructured{}
	engine.SetGroupVersionKind(engineKind)
	if err := r.Get(ctx, request.NamespacedName, engine); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if engine.GetDeletionTimestamp() != nil {
		return ctrl.Result{}, nil
	}
	deployment := &appsv1.Deployment{}
	for _, template := range r.children {
		wanted, err := render(template, engine)
		if err != nil {
			return ctrl.Result{}, err
		}
		typed, err := typedOf(wanted)
		if err != nil {
			return ctrl.Result{}, err
		}
		live := reflect.New(reflect.TypeOf(typed).Elem()).Interface().(client.Object)
		err = r.Get(ctx, client.ObjectKeyFromObject(wanted), live)
		if client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
		if apierrors.IsNotFound(err) || !covers(live, typed) {
			configuration := client.ApplyConfigurationFromUnstructured(wanted)
			if err := r.Apply(ctx, configuration, client.ForceOwnership, client.FieldOwner(fieldManager)); err != nil {
				return ctrl.Result{}, err
			}
		}
		if found, is := live.(*appsv1.Deployment); is {
			deployment = found
		}
	}
	return ctrl.Result{}, r.report(ctx, engine, deployment)
}

// covers says whether a live object still has everything that is wanted of it; defaults may come on top.
func covers(live, wanted client.Object) bool {
	if !equality.Semantic.DeepDerivative(wanted.GetLabels(), live.GetLabels()) ||
		!equality.Semantic.DeepDerivative(wanted.GetAnnotations(), live.GetAnnotations()) {
		return false
	}
	switch wanted := wanted.(type) {
	case *appsv1.Deployment:
		return equality.Semantic.DeepDerivative(wanted.Spec, live.(*appsv1.Deployment).Spec)
	case *corev1.ConfigMap:
		return equality.Semantic.DeepEqual(wanted.Data, live.(*corev1.ConfigMap).Data)
	case *corev1.Service:
		return equality.Semantic.DeepDerivative(wanted.Spec, live.(*corev1.Service).Spec)
	case *networkingv1.NetworkPolicy:
		// A derivative overlooks what was added to a list; nothing in here is defaulted.
		return equality.Semantic.DeepEqual(wanted.Spec, live.(*networkingv1.NetworkPolicy).Spec)
	case *policyv1.PodDisruptionBudget:
		return equality.Semantic.DeepDerivative(wanted.Spec, live.(*policyv1.PodDisruptionBudget).Spec)
	}
	return false
}

// report writes the status if it changed.
func (r *reconciler) report(ctx context.Context, engine *unstructured.Unstructured, deployment *appsv1.Deployment) error {
	desired := int32(1)
	if deployment.Spec.Replicas != nil {
		desired = *deployment.Spec.Replicas
	}
	state := deployment.Status
	settled := deployment.UID != "" && state.ObservedGeneration >= deployment.Generation &&
		state.Replicas == desired && state.UpdatedReplicas == desired && state.ReadyReplicas == desired
	status, reason := metav1.ConditionFalse, "Progressing"
	if settled {
		status, reason = metav1.ConditionTrue, "AsDeclared"
	}
	conditions, _, _ := unstructured.NestedSlice(engine.Object, "status", "conditions")
	since := metav1.Now().UTC().Format("2006-01-02T15:04:05Z")
	for _, item := range conditions {
		if before, is := item.(map[string]any); is && before["type"] == "Ready" && before["status"] == string(status) {
			since, _ = before["lastTransitionTime"].(string)
		}
	}
	wanted := map[string]any{
		"observedGeneration": engine.GetGeneration(),
		"replicas":           int64(state.Replicas),
		"readyReplicas":      int64(state.ReadyReplicas),
		"conditions": []any{map[string]any{
			"type": "Ready", "status": string(status), "reason": reason, "message": "",
			"observedGeneration": engine.GetGeneration(), "lastTransitionTime": since,
		}},
	}
	live, _, _ := unstructured.NestedMap(engine.Object, "status")
	if equality.Semantic.DeepDerivative(wanted, live) {
		return nil
	}
	report := &unstructured.Unstructured{Object: map[string]any{"status": wanted}}
	report.SetGroupVersionKind(engineKind)
	report.SetName(engine.GetName())
	report.SetNamespace(engine.GetNamespace())
	configuration := client.ApplyConfigurationFromUnstructured(report)
	return client.IgnoreNotFound(
		r.Status().Apply(ctx, configuration, client.ForceOwnership, client.FieldOwner(fieldManager)))
}
