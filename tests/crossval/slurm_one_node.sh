#!/usr/bin/env bash
# One machine as a SLURM cluster for the tests: slurm_one_node.sh start|stop FOLDER, then SLURM_CONF=FOLDER/slurm.conf.
# For root, with Debian's slurm-wlm and munge. Partition high takes the place of low, whose jobs are put back.
set -euo pipefail
folder=$(realpath -m "$2") conf=$(realpath -m "$2")/slurm.conf
stop() {
  for name in slurmd slurmctld; do
    [ -s "$folder/$name.pid" ] || continue
    daemon=$(cat "$folder/$name.pid")
    kill "$daemon" 2>/dev/null || continue
    for _ in $(seq 40); do kill -0 "$daemon" 2>/dev/null || continue 2; sleep 0.25; done
    kill -KILL "$daemon" 2>/dev/null || true
  done
  if [ -s "$folder/munged.pid" ]; then kill "$(cat "$folder/munged.pid")" 2>/dev/null || true; fi
}
case $1 in
stop) stop; exit 0 ;;
start) ;;
*) echo "usage: $0 start|stop FOLDER" >&2; exit 2 ;;
esac
mkdir -p "$folder/state" "$folder/spool"
if ! munge --no-input 2>/dev/null | unmunge >/dev/null 2>&1; then  # a daemon of the system serves as well
  install -d -o munge -g munge /run/munge /var/lib/munge /var/log/munge
  [ -s /etc/munge/munge.key ] || su -s /bin/sh munge -c "/usr/sbin/mungekey"
  su -s /bin/sh munge -c "/usr/sbin/munged"
  cp /run/munge/munged.pid "$folder/munged.pid" 2>/dev/null || true
fi
cat >"$conf" <<CONF
ClusterName=crossval
SlurmctldHost=$(hostname)
SlurmctldPort=16917
SlurmdPort=16918
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=3
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=10
NodeName=$(hostname) CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=2 State=UP
CONF
trap stop ERR
export SLURM_CONF=$conf
slurmctld && slurmd
for _ in $(seq 60); do
  if sinfo --noheader 2>/dev/null | grep --quiet idle; then exit 0; fi
  sleep 0.5
done
tail -n 20 "$folder/slurmctld.log" "$folder/slurmd.log" >&2
stop
exit 1
