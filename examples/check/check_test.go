// Package check tests the examples as those will read them for whom they are written:
// Kubernetes' own types, Compose's own loader, a shell.
package check

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

// manifests are the objects of one file.
type manifests struct {
	config   corev1.ConfigMap
	service  corev1.Service
	budget   *policyv1.PodDisruptionBudget
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
	replicas int32
}

// load decodes a file strictly: a field that Kubernetes does not know is an error.
func load(t *testing.T, name string) (m manifests) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "kubernetes", name))
	require.NoError(t, err)
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return m
		}
		require.NoError(t, err)
		var kind metav1.TypeMeta
		require.NoError(t, strict.Unmarshal(document, &kind))
		decode := func(into runtime.Object, want string) {
			require.NoError(t, strict.UnmarshalStrict(document, into), "%s of %s", kind.Kind, name)
			require.Equal(t, want, kind.APIVersion)
		}
		switch kind.Kind {
		case "ConfigMap":
			decode(&m.config, "v1")
		case "Service":
			decode(&m.service, "v1")
		case "StatefulSet":
			var set appsv1.StatefulSet
			decode(&set, "apps/v1")
			require.Equal(t, "fotor-webhook", set.Spec.ServiceName)
			m.selector, m.pod, m.claims, m.replicas = set.Spec.Selector, set.Spec.Template, set.Spec.VolumeClaimTemplates, *set.Spec.Replicas
		case "Deployment":
			var d appsv1.Deployment
			decode(&d, "apps/v1")
			m.selector, m.pod, m.replicas = d.Spec.Selector, d.Spec.Template, *d.Spec.Replicas
		case "PodDisruptionBudget":
			m.budget = new(policyv1.PodDisruptionBudget)
			decode(m.budget, "policy/v1")
		default:
			require.Fail(t, "unexpected kind", kind.Kind)
		}
	}
}

func TestKubernetes(t *testing.T) {
	for name, several := range map[string]bool{"sqlite.yaml": false, "nats.yaml": true} {
		t.Run(name, func(t *testing.T) {
			m := load(t, name)
			assert.Equal(t, several, m.replicas > 1)
			assert.Equal(t, several, m.budget != nil)
			assert.Subset(t, m.pod.Labels, m.selector.MatchLabels)
			assert.Subset(t, m.pod.Labels, m.service.Spec.Selector)
			if several {
				assert.Equal(t, m.selector, m.budget.Spec.Selector)
			}
			require.Len(t, m.pod.Spec.Containers, 1)
			c := m.pod.Spec.Containers[0]
			checkProbe(t, c, c.ReadinessProbe, m.config.Data["Caddyfile"])
			if c.StartupProbe != nil {
				checkProbe(t, c, c.StartupProbe, m.config.Data["Caddyfile"])
			}
			assert.Nil(t, c.LivenessProbe)
			assert.Contains(t, ports(c), m.service.Spec.Ports[0].TargetPort.StrVal)
			checkVolumes(t, m, c)
			checkHardened(t, m.pod.Spec, c)
			assert.GreaterOrEqual(t, *m.pod.Spec.TerminationGracePeriodSeconds, int64(10+10+20), "docs/production.md")
		})
	}
}

func ports(c corev1.Container) map[string]int32 {
	found := make(map[string]int32)
	for _, p := range c.Ports {
		found[p.Name] = p.ContainerPort
	}
	return found
}

// checkProbe checks that a probe asks what the Caddyfile answers, and waits as long as an
// answer may take.
func checkProbe(t *testing.T, c corev1.Container, p *corev1.Probe, caddyfile string) {
	t.Helper()
	require.NotNil(t, p)
	require.NotNil(t, p.HTTPGet)
	port, ok := ports(c)[p.HTTPGet.Port.StrVal]
	require.True(t, ok, "port %s", p.HTTPGet.Port.StrVal)
	require.EqualValues(t, 8081, port)
	require.Contains(t, caddyfile, "http://:8081 {\n\tfotor_webhook_ready "+p.HTTPGet.Path+"\n")
	assert.GreaterOrEqual(t, p.TimeoutSeconds, int32(3), "docs/readiness.md")
}

func checkVolumes(t *testing.T, m manifests, c corev1.Container) {
	t.Helper()
	there := make(map[string]bool)
	for _, v := range m.pod.Spec.Volumes {
		there[v.Name] = true
		if v.ConfigMap != nil {
			assert.Equal(t, m.config.Name, v.ConfigMap.Name)
		}
	}
	for _, claim := range m.claims {
		there[claim.Name] = true
		room := claim.Spec.Resources.Requests[corev1.ResourceStorage]
		assert.Positive(t, room.Cmp(resource.MustParse("10Gi")), "more than max_size")
	}
	mounted := make(map[string]string)
	for _, mount := range c.VolumeMounts {
		assert.True(t, there[mount.Name], "volume %s", mount.Name)
		mounted[mount.MountPath] = mount.Name
	}
	assert.Len(t, mounted, len(there), "each volume is mounted once")
	assert.Contains(t, mounted, "/data")
	assert.Contains(t, mounted, "/etc/caddy")
	for line := range strings.Lines(m.config.Data["Caddyfile"]) {
		if _, file, ok := strings.Cut(line, "{file."); ok {
			assert.Contains(t, mounted, filepath.Dir(file))
		}
	}
}

// checkHardened checks for what the "restricted" policy of Kubernetes demands, and for a
// read-only root.
func checkHardened(t *testing.T, pod corev1.PodSpec, c corev1.Container) {
	t.Helper()
	assert.True(t, *pod.SecurityContext.RunAsNonRoot)
	assert.EqualValues(t, 10001, *pod.SecurityContext.RunAsUser, "as in the image")
	assert.Equal(t, pod.SecurityContext.RunAsUser, pod.SecurityContext.FSGroup)
	assert.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.SecurityContext.SeccompProfile.Type)
	assert.False(t, *c.SecurityContext.AllowPrivilegeEscalation)
	assert.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
	assert.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop)
	assert.False(t, *pod.AutomountServiceAccountToken)
}

func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{filepath.Join("..", "compose.yaml")})
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context()) // checks the schema
	require.NoError(t, err)
	require.Equal(t, []string{"app", "gateway"}, project.ServiceNames())
	for name, s := range project.Services {
		assert.True(t, s.ReadOnly, name)
		assert.Equal(t, []string{"ALL"}, s.CapDrop, name)
		assert.Contains(t, s.SecurityOpt, "no-new-privileges:true", name)
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind {
				_, err := os.Stat(v.Source)
				require.NoError(t, err, name)
			}
		}
	}
	gateway := project.Services["gateway"]
	_, err = os.Stat(filepath.Join(gateway.Build.Context, gateway.Build.Dockerfile))
	require.NoError(t, err)
	assert.Equal(t, gateway.Image, project.Services["app"].Image)
	require.Len(t, gateway.Ports, 1)
	assert.Equal(t, "127.0.0.1", gateway.Ports[0].HostIP, "nobody else reaches it")
	assert.Nil(t, gateway.HealthCheck, "that of the image")
}
