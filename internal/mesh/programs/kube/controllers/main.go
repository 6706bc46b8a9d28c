// Command controllers runs those of Kubernetes' controllers that a Deployment, a Job and a Service need, and a stand-in for
// the one node: it runs nothing, and says of each pod that it runs, or of a Job's that it has ended well. The whole
// kube-controller-manager would take many minutes to build.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/endpointslice"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
)

const (
	workers = 1
	// seldom is how often the garbage collector asks which kinds of resources there are.
	seldom = time.Minute
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of a kubeconfig")
	ip := flag.String("pod-ip", "", "address of every pod")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	config.QPS, config.Burst = 200, 200
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := kubernetes.NewForConfig(config)
	if err == nil {
		err = run(ctx, config, client)
	}
	if err != nil {
		stop()
		log.Fatal(err)
	}
	(&node{client, *ip}).run(ctx)
}

// run starts the controllers.
func run(ctx context.Context, config *rest.Config, client kubernetes.Interface) error {
	f := informers.NewSharedInformerFactory(client, 0)
	core, apps, scheduling := f.Core().V1(), f.Apps().V1(), f.Scheduling().V1alpha2()
	deployments, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), core.Pods(), client)
	if err != nil {
		return err
	}
	jobs, err := job.NewController(ctx, client, core.Pods(), f.Batch().V1().Jobs(), scheduling.Workloads(), scheduling.PodGroups())
	if err != nil {
		return err
	}
	accounts, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), core.ServiceAccounts(), core.Namespaces(),
		client, serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return err
	}
	sets := replicaset.NewReplicaSetController(ctx, apps.ReplicaSets(), core.Pods(), client, replicaset.BurstReplicas)
	slices := endpointslice.NewController(ctx, core.Pods(), core.Services(), core.Nodes(), f.Discovery().V1().EndpointSlices(), 100,
		client, 0)
	if err := collect(ctx, config, client, f); err != nil {
		return err
	}
	f.Start(ctx.Done())
	for _, c := range []interface{ Run(context.Context, int) }{deployments, jobs, accounts, sets, slices} {
		go c.Run(ctx, workers)
	}
	return nil
}

// collect starts the garbage collector, which deletes what belongs to something deleted.
func collect(ctx context.Context, config *rest.Config, client kubernetes.Interface, f informers.SharedInformerFactory) error {
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return err
	}
	started := make(chan struct{})
	close(started)
	all := informerfactory.NewInformerFactory(f, metadatainformer.NewSharedInformerFactory(meta, 0))
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery()))
	collector, err := garbagecollector.NewGarbageCollector(ctx, client, meta, mapper, map[schema.GroupResource]struct{}{}, all, started)
	if err != nil {
		return err
	}
	go collector.Run(ctx, workers, seldom)
	go collector.Sync(ctx, client.Discovery(), seldom)
	return nil
}
