package main

import (
	"context"
	"log"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// often is how often the node looks at the pods.
const often = 100 * time.Millisecond

// node stands for the scheduler and for the kubelet of a node.
type node struct {
	client kubernetes.Interface
	ip     string // of every pod
}

// run looks after all pods until ctx ends.
func (n *node) run(ctx context.Context) {
	tick := time.NewTicker(often)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pods, err := n.client.CoreV1().Pods("").List(ctx, meta.ListOptions{})
		if err != nil {
			log.Print(err)
			continue
		}
		for i := range pods.Items {
			if err := n.lookAfter(ctx, &pods.Items[i]); err != nil && ctx.Err() == nil {
				log.Print(err) // the next look tries again
			}
		}
	}
}

func (n *node) lookAfter(ctx context.Context, p *core.Pod) error {
	pods := n.client.CoreV1().Pods(p.Namespace)
	switch {
	case p.DeletionTimestamp != nil:
		return pods.Delete(ctx, p.Name, *meta.NewDeleteOptions(0))
	case p.Spec.NodeName == "":
		return pods.Bind(ctx, &core.Binding{
			ObjectMeta: meta.ObjectMeta{Name: p.Name, Namespace: p.Namespace},
			Target:     core.ObjectReference{Kind: "Node", Name: "node"},
		}, meta.CreateOptions{})
	case p.Status.Phase != core.PodPending:
		return nil
	}
	p.Status.Phase = core.PodRunning
	if p.Spec.RestartPolicy != core.RestartPolicyAlways { // a Job's
		p.Status.Phase = core.PodSucceeded
	}
	p.Status.PodIP, p.Status.PodIPs = n.ip, []core.PodIP{{IP: n.ip}}
	p.Status.Conditions = []core.PodCondition{{Type: core.PodReady, Status: core.ConditionTrue, LastTransitionTime: meta.Now()}}
	_, err := pods.UpdateStatus(ctx, p, meta.UpdateOptions{})
	return err
}
