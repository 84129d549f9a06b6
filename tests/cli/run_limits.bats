#!/usr/bin/env bats
# Limits: memory, processes, CPU, ulimits, /dev/shm, and their change while it runs.
load helper

# The value of a cgroup file of a workload, v1 or v2. cgroup_value NAME V1-CONTROLLER V1-FILE V2-FILE
cgroup_value() {
    local id
    id=$(inspect "$1" '{{.Id}}')
    cat "/sys/fs/cgroup/$2/isola/$id/$3" 2>/dev/null || cat "/sys/fs/cgroup/isola/$id/$4"
}

@test "--memory kills a hog, and inspect says so" {
    run -137 irun --name hog --memory 32m $IMAGE sh -c 'dd if=/dev/zero of=/dev/shm/fill bs=1M count=60 2>/dev/null; tail /dev/zero'
    equals "true 137" "$(inspect hog '{{.State.OOMKilled}} {{.State.ExitCode}}')"
    equals 33554432 "$(inspect hog '{{.HostConfig.Memory}}')"
    irun --name calm --memory 32m $IMAGE true
    equals false "$(inspect calm '{{.State.OOMKilled}}')"
}

@test "memory limits that make no sense are refused" {
    run -125 irun --rm --memory 1m $IMAGE true
    contains "$output" "6m"
    run -125 irun --rm --memory-swap 64m $IMAGE true
    contains "$output" "--memory"
    run -125 irun --rm --memory 64m --memory-swap 32m $IMAGE true
    equals "" "$(isola ps -aq)"
}

@test "--memory-swap -1 and --memory-reservation reach the cgroup" {
    irun -d --name m --memory 64m --memory-swap -1 --memory-reservation 32m $IMAGE sleep 100
    equals 67108864 "$(cgroup_value m memory memory.limit_in_bytes memory.max)"
    equals 33554432 "$(cgroup_value m memory memory.soft_limit_in_bytes memory.low)"
    equals -1 "$(inspect m '{{.HostConfig.MemorySwap}}')"
}

@test "--pids-limit stops a fork bomb" {
    irun -d --name p --pids-limit 8 $IMAGE sleep 100
    equals 8 "$(cgroup_value p pids pids.max pids.max)"
    run ! isola exec p sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait'
    contains "$output" "fork"
    irun -d --name any --pids-limit -1 $IMAGE sleep 100
    equals max "$(cgroup_value any pids pids.max pids.max)"
}

@test "--cpus, --cpu-shares and --cpuset-cpus reach the cgroup" {
    irun -d --name c --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 $IMAGE sleep 100
    equals 50000 "$(cgroup_value c cpu cpu.cfs_quota_us cpu.max | cut -d' ' -f1)"
    equals 0 "$(cgroup_value c cpuset cpuset.cpus cpuset.cpus)"
    equals 0 "$(isola exec c sh -c "grep Cpus_allowed_list /proc/self/status | cut -f2")"
    equals "500000000 512 0" "$(inspect c '{{.HostConfig.NanoCpus}} {{.HostConfig.CpuShares}} {{.HostConfig.CpusetCpus}}')"
    run -125 irun --rm --cpus 1 --cpu-quota 1000 $IMAGE true
    run -125 irun --rm --cpus many $IMAGE true
    contains "$output" many
    run -125 irun --rm --cpuset-cpus 999 $IMAGE true
    contains "$output" 999
}

@test "--ulimit sets soft and hard limits" {
    equals "100 200" "$(irun --rm --ulimit nofile=100:200 $IMAGE sh -c 'echo $(ulimit -Sn) $(ulimit -Hn)')"
    equals 0 "$(irun --rm --ulimit core=0 $IMAGE sh -c 'ulimit -c')"
    run -125 irun --rm --ulimit nofile=200:100 $IMAGE true
    contains "$output" nofile
    run -125 irun --rm --ulimit nothing=1 $IMAGE true
    contains "$output" nothing
}

@test "a ulimit above what we may give is refused by name" {
    hard=$(ulimit -Hn)
    [ "$hard" != unlimited ] || skip "the hard limit of open files is not limited here"
    capsh --has-p=cap_sys_resource 2>/dev/null && skip "CAP_SYS_RESOURCE may raise any limit"
    run -125 irun --rm --ulimit nofile=$((hard + 1)) $IMAGE true
    contains "$output" NOFILE
}

@test "--shm-size is the size of /dev/shm" {
    equals 65536 "$(irun --rm $IMAGE df -k /dev/shm | awk 'NR==2 {print $2}')"
    equals 8192 "$(irun --rm --shm-size 8m $IMAGE df -k /dev/shm | awk 'NR==2 {print $2}')"
}

@test "--oom-score-adj is set" {
    equals 500 "$(irun --rm --oom-score-adj 500 $IMAGE cat /proc/self/oom_score_adj)"
    run -125 irun --rm --oom-score-adj 5000 $IMAGE true
    contains "$output" 5000
}

@test "update changes a running workload and what the next start gets" {
    irun -d --name u --memory 64m --cpus 1 $IMAGE sleep 100
    equals u "$(isola update --memory 128m --memory-swap 256m --cpus 0.25 --pids-limit 50 u)"
    equals 134217728 "$(cgroup_value u memory memory.limit_in_bytes memory.max)"
    equals 25000 "$(cgroup_value u cpu cpu.cfs_quota_us cpu.max | cut -d' ' -f1)"
    equals 50 "$(cgroup_value u pids pids.max pids.max)"
    equals "134217728 250000000 50" "$(inspect u '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}')"
    isola restart -t 0 u
    equals 134217728 "$(cgroup_value u memory memory.limit_in_bytes memory.max)"
    equals 50 "$(cgroup_value u pids pids.max pids.max)"
    run -1 isola update --memory 1m u
    equals 134217728 "$(inspect u '{{.HostConfig.Memory}}')"
}

@test "update --restart changes the policy" {
    irun -d --name u $IMAGE sleep 100
    isola update --restart on-failure:3 u
    equals "on-failure 3" "$(inspect u '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}')"
    run -1 isola update --restart sometimes u
    contains "$output" sometimes
}
