# Looks at this machine and at everything it is asked for, and prints what it sees. Changes nothing.
# Arguments: file:PATH, stat:PATH, unit:NAME, version:PATH, in any order and number.
# Prints lines of fields with a tab between them, the key first. A field that holds a tab or a line break, or begins with
# `=`, is printed as `=` and its base64. The last line is `end`; without it something is missing. What this machine has no
# means to tell is left out; what should be there to see but could not be read is an `error` line.
set -eu
export LC_ALL=C PATH="${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin"
tab=$(printf '\t.') tab=${tab%.}
nl='
'
has() { command -v "$1" >/dev/null 2>&1; }
number() { # $1, or 0 where it is none
    case $1 in '' | *[!0-9]*) echo 0 ;; *) echo "$1" ;; esac
}
encode() { base64 | tr -d '\n'; }
line() {
    out=
    for field; do
        case $field in
        =* | *"$tab"* | *"$nl"*) field="=$(printf %s "$field" | encode)" ;;
        esac
        out="$out${out:+$tab}$field"
    done
    printf '%s\n' "$out"
}
limited() { # seconds, program, arguments: the program, for so long at most
    if has timeout; then
        timeout "$@"
    else
        shift
        "$@"
    fi
}

# --- Paths: one `stat` for all of them.

# An interest, a line of stat's, and what the line says.
path() {
    kind=other target='' name=$3
    if [ -L "$name" ]; then
        kind='link'
        # The dot keeps a target that ends in line breaks whole.
        target=$(readlink -- "$name" && echo .) || return 0
        target=${target%"$nl".}
    elif [ -f "$name" ]; then
        kind='file'
    elif [ -d "$name" ]; then
        kind='folder'
    fi
    interest=$2
    old_ifs=$IFS IFS=$tab
    set -f
    # shellcheck disable=SC2086 # fields of stat's line
    set -- $1
    set +f
    IFS=$old_ifs
    # A user or group without a name is known by its number.
    user=$5 group=$6
    [ "$user" != UNKNOWN ] || user=$3
    [ "$group" != UNKNOWN ] || group=$4
    if [ $kind = link ]; then
        line path "$name" $kind "$1" "$user" "$group" "$2" "$target"
    else
        line path "$name" $kind "$1" "$user" "$group" "$2"
    fi
    case $interest in
    file:*)
        if [ $kind = file ] && [ "$2" -le 1048576 ]; then
            # Gone since then: absent. Still there: whoever asked must not take it for empty.
            if content=$(base64 -w0 <"$name" 2>/dev/null) || content=$(base64 <"$name" | tr -d '\n'); then
                line content "$name" "$content"
            elif [ -e "$name" ]; then
                line error "$name cannot be read"
            fi
        fi
        ;;
    esac
}
stats() { stat -c "%a$tab%s$tab%u$tab%g$tab%U$tab%G" -- "$@" 2>/dev/null; }
paths() {
    for interest; do
        shift
        case $interest in
        file:* | stat:*)
            name=${interest#*:}
            if [ -e "$name" ] || [ -L "$name" ]; then set -- "$@" "$interest"; fi
            ;;
        esac
    done
    [ $# -gt 0 ] || return 0
    all=$(
        for interest; do
            shift
            set -- "$@" "${interest#*:}"
        done
        stats "$@"
    ) || all=
    # Something vanished in between: one by one then, or lines would be taken for those of other paths.
    for interest; do
        name=${interest#*:}
        if [ -n "$all" ]; then
            one=${all%%"$nl"*}
            all=${all#"$one"}
            all=${all#"$nl"}
        else
            one=$(stats "$name") || one=
        fi
        if [ -n "$one" ]; then
            path "$one" "$interest" "$name"
        elif [ -e "$name" ] || [ -L "$name" ]; then
            line error "$name cannot be looked at"
        fi
    done
}

# --- Units: one `systemctl show` for all of them, and for the firewall that is one.

firewalld=inactive
unit_end() {
    [ -n "$unit" ] || return 0
    if [ "$unit" = firewalld.service ]; then firewalld=$active; fi
    case $load:$active in
    '':* | not-found:inactive | not-found:failed) return 0 ;;
    esac
    pending=0
    if [ -e "/run/xgenctl/restart-$unit" ]; then pending=1; fi
    [ -z "$asked" ] || line unit "$unit" "$active" "$sub" "$enabled" "$(number "$pid")" "$(number "$restarts")" \
        "$fragment" "$reload" $pending
}
units() {
    for interest; do
        shift
        case $interest in unit:*) set -- "$@" "${interest#unit:}" ;; esac
    done
    set -- "$@" firewalld.service
    has systemctl && [ -d /run/systemd/system ] || return 0
    properties=LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,FragmentPath,NeedDaemonReload
    if ! shown=$(limited 20 systemctl show --no-pager -p $properties -- "$@" 2>&1); then
        line error "systemctl show: $shown"
        return 0
    fi
    # Blocks come in the order of the arguments, an empty line between them.
    while [ $# -gt 0 ]; do
        unit=$1 load='' active='' sub='' enabled='' pid=0 restarts=0 fragment='' reload=0 asked=yes
        shift
        [ $# -gt 0 ] || asked=
        if [ -z "$shown" ]; then
            line error "systemctl show said nothing of $unit"
            return 0
        fi
        while [ -n "$shown" ]; do
            one=${shown%%"$nl"*}
            shown=${shown#"$one"}
            shown=${shown#"$nl"}
            case $one in
            '') break ;;
            LoadState=*) load=${one#*=} ;;
            ActiveState=*) active=${one#*=} ;;
            SubState=*) sub=${one#*=} ;;
            UnitFileState=*) enabled=${one#*=} ;;
            MainPID=*) pid=${one#*=} ;;
            NRestarts=*) restarts=${one#*=} ;;
            FragmentPath=*) fragment=${one#*=} ;;
            NeedDaemonReload=yes) reload=1 ;;
            esac
        done
        unit_end
    done
}

versions() {
    for interest; do
        case $interest in version:*) ;; *) continue ;; esac
        name=${interest#*:}
        [ -f "$name" ] || continue
        said=
        if [ -x "$name" ]; then said=$(limited 10 "$name" --version </dev/null 2>/dev/null) || :; fi
        line version "$name" "${said%%"$nl"*}"
    done
}

# --- The machine.

system() {
    hostname=
    read -r hostname </proc/sys/kernel/hostname || :
    line hostname "$hostname"
    release=/etc/os-release
    [ -r $release ] || release=/usr/lib/os-release
    if [ -r $release ]; then
        while IFS= read -r text || [ -n "$text" ]; do
            value=${text#*=}
            case $value in
            \"*\") value=${value#\"} value=${value%\"} ;;
            \'*\') value=${value#\'} value=${value%\'} ;;
            esac
            case $text in
            ID=*) line os_id "$value" ;;
            VERSION_ID=*) line os_version "$value" ;;
            PRETTY_NAME=*) line os_name "$value" ;;
            esac
        done <$release
    fi
    kernel=$(uname -r)
    # shellcheck disable=SC2046 # two words
    set -- $(uname -sm)
    line kernel_name "$1"
    line kernel "$kernel"
    line arch "$2"
    if [ -r /etc/machine-id ]; then
        id=
        read -r id </etc/machine-id || :
        line machine_id "$id"
    fi
    if [ -d /run/systemd/system ]; then line systemd 1; else line systemd 0; fi
    while read -r key _ effective _; do
        [ "$key" = Uid: ] || continue
        if [ "$effective" = 0 ]; then line root 1; else line root 0; fi
        break
    done </proc/self/status
    line cpus "$(nproc 2>/dev/null || grep -c ^processor /proc/cpuinfo || echo 0)"
    while read -r key kib _; do
        case $key in
        MemTotal:) line memory_kib "$kib" ;;
        SwapTotal:) line swap_kib "$kib" ;;
        esac
    done </proc/meminfo
}

# The path itself, or the nearest folder above it that is there.
existing() {
    at=$1
    while [ ! -e "$at" ]; do at=${at%/*}; [ -n "$at" ] || at=/; done
    echo "$at"
}
disks() {
    typed=yes
    set -- "$(existing /var/lib/rancher)" "$(existing /usr/local/bin)"
    shown=$(limited 10 df -PTk -- "$@" 2>/dev/null) || { typed= && shown=$(limited 10 df -Pk -- "$@" 2>/dev/null); } || return 0
    shown=${shown#*"$nl"}
    for what in data bin; do
        one=${shown%%"$nl"*}
        shown=${shown#*"$nl"}
        # Names of devices and mount points may hold spaces: the figures stand right before the percent sign.
        case $one in *"% /"*) ;; *) continue ;; esac
        set -f
        # shellcheck disable=SC2086 # words
        set -- ${one%%"% /"*}
        set +f
        if [ $# -gt 5 ]; then shift $(($# - 5)); fi
        [ $# = 5 ] || continue
        if [ $what = data ]; then
            line data_free_kib "$(number "$4")"
            line data_size_kib "$(number "$2")"
            [ -z "$typed" ] || line data_fs "$1"
        else
            line bin_free_kib "$(number "$4")"
        fi
    done
}

cgroups() {
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        line cgroup_version 2
        usable=
        read -r usable </sys/fs/cgroup/cgroup.controllers || :
        for name in $usable; do line controller "$name"; done
        return
    fi
    version=0
    if [ -r /proc/cgroups ]; then
        # A controller that no hierarchy of version 1 carries is out of reach, switched on or not.
        while read -r name hierarchy _ enabled || [ -n "$name" ]; do
            case $name in '#'*) continue ;; esac
            if [ "$enabled" = 1 ] && [ "$hierarchy" != 0 ]; then
                version=1
                line controller "$name"
            fi
        done </proc/cgroups
    fi
    line cgroup_version $version
}

modules() {
    wanted='overlay br_netfilter nf_conntrack iptable_nat nf_tables vxlan'
    found='' missing=''
    for name in $wanted; do
        if [ -d "/sys/module/$name" ]; then found="$found $name"; else missing="$missing|$name"; fi
    done
    if [ -n "$missing" ]; then
        # In a container neither list is there: what is not loaded now may or may not exist.
        [ -r "/lib/modules/$kernel/modules.dep" ] || return 0
        found="$found $(grep -hoE "^[^: ]*/(${missing#|})[.]ko" "/lib/modules/$kernel/modules.dep" \
            "/lib/modules/$kernel/modules.builtin" 2>/dev/null || :)"
    fi
    line modules_known
    for name in $wanted; do
        for file in $found; do
            file=${file##*/}
            if [ "${file%.ko}" = "$name" ]; then
                line module "$name"
                break
            fi
        done
    done
}

clock() {
    # busybox knows no %N.
    now=$(date +%s%3N)
    case $now in
    *[!0-9]*) now=$(date +%s)000 ;;
    ?????????????*) ;;
    *) now=${now}000 ;;
    esac
    line clock_ms "$now"
}

# --- Network.

address4() { # an address as the kernel prints it in hexadecimal, lowest byte first
    word=$((0x$1))
    dotted=$((word & 255)).$((word >> 8 & 255)).$((word >> 16 & 255)).$((word >> 24 & 255))
}
address6() { # 32 hexadecimal digits; $2: words with their lowest byte first, as /proc/net/tcp6 has them
    rest=$1 colons=
    while [ -n "$rest" ]; do
        tail=${rest#????????}
        word=${rest%"$tail"}
        rest=$tail
        if [ -n "${2:-}" ]; then
            word=$((0x$word))
            word=$(printf '%02x%02x%02x%02x' $((word & 255)) $((word >> 8 & 255)) $((word >> 16 & 255)) $((word >> 24 & 255)))
        fi
        colons="$colons${colons:+:}${word%????}:${word#????}"
    done
}
network() {
    # The table that Kubernetes itself reads to find a node's address.
    device='' best=''
    while read -r name destination _ flags _ _ metric mask _; do
        if [ "$destination:$mask" = 00000000:00000000 ] && [ $((0x$flags & 1)) = 1 ]; then
            if [ -z "$best" ] || [ "$metric" -lt "$best" ]; then device=$name best=$metric; fi
        fi
    done 2>/dev/null </proc/net/route || :
    device6=
    if [ -r /proc/net/ipv6_route ]; then
        zero=00000000000000000000000000000000
        default6=$(grep "^$zero 00 " /proc/net/ipv6_route || :)
        while [ -n "$default6" ]; do
            one=${default6%%"$nl"*}
            default6=${default6#"$one"}
            default6=${default6#"$nl"}
            name=${one##* }
            [ "$name" = lo ] || device6=$name
        done
    fi
    if [ -n "$device$device6" ]; then line default_route 1; else line default_route 0; fi
    default_address=
    # Addresses, a line each: interface, address.
    if has ip && shown=$(ip -o addr show 2>/dev/null); then
        while [ -n "$shown" ]; do
            one=${shown%%"$nl"*}
            shown=${shown#"$one"}
            shown=${shown#"$nl"}
            set -f
            # shellcheck disable=SC2086 # words
            set -- $one
            set +f
            case ${3:-} in inet | inet6) ;; *) continue ;; esac
            known "${2%%@*}" "${4%%/*}"
        done
    else
        addresses_of_proc
    fi
    [ -z "$default_address" ] || line default_address "$default_address"
}
known() { # interface, address
    [ "$1" != lo ] || return 0
    line address "$2"
    [ -z "$default_address" ] || return 0
    case $2 in
    fe80:*) ;;
    *:*) if [ -z "$device" ] && [ "$1" = "$device6" ]; then default_address=$2; fi ;;
    *) if [ "$1" = "$device" ]; then default_address=$2; fi ;;
    esac
}
addresses_of_proc() {
    last='' seen=' '
    while read -r first second third _; do
        case $first in
        '|--' | '+--') last=$second ;;
        /32)
            case $second$third:$last in hostLOCAL:127.* | link*) continue ;; hostLOCAL:*) ;; *) continue ;; esac
            case $seen in *" $last "*) continue ;; esac
            seen="$seen$last "
            known "$(device_of "$last")" "$last"
            ;;
        esac
    done 2>/dev/null </proc/net/fib_trie || :
    if [ -r /proc/net/if_inet6 ]; then
        while read -r hex _ _ _ _ name; do
            address6 "$hex"
            known "$name" "$colons"
        done </proc/net/if_inet6
    fi
}
device_of() { # the interface whose network the address is in
    old_ifs=$IFS IFS=.
    # shellcheck disable=SC2086 # four numbers
    set -- $1
    IFS=$old_ifs
    number=$(($1 | $2 << 8 | $3 << 16 | $4 << 24))
    while read -r name destination gateway _ _ _ _ mask _; do
        case $gateway:$mask in
        *:00000000 | *:Mask) ;;
        00000000:*)
            if [ $((number & 0x$mask)) = $((0x$destination)) ]; then
                echo "$name"
                return
            fi
            ;;
        esac
    done </proc/net/route
}
names() {
    if [ -r /etc/resolv.conf ]; then
        while read -r key value _ || [ -n "$key" ]; do
            if [ "$key" = nameserver ] && [ -n "$value" ]; then line nameserver "$value"; fi
        done </etc/resolv.conf
    fi
    resolves=0
    if [ -r /etc/hosts ]; then
        while read -r _ text || [ -n "$text" ]; do
            set -f
            for word in ${text%%#*}; do
                [ "$word" != "$hostname" ] || resolves=1
            done
            set +f
        done </etc/hosts
    fi
    if [ $resolves = 0 ] && has getent && limited 2 getent hosts "$hostname" >/dev/null 2>&1; then resolves=1; fi
    line resolves_itself $resolves
}
sockets() {
    if has ss && shown=$(ss -Hlntup 2>/dev/null); then
        while [ -n "$shown" ]; do
            one=${shown%%"$nl"*}
            shown=${shown#"$one"}
            shown=${shown#"$nl"}
            set -f
            # shellcheck disable=SC2086 # words
            set -- $one
            set +f
            case ${1:-} in tcp | udp) ;; *) continue ;; esac
            port=${5##*:} address=${5%:*}
            case $port in '' | *[!0-9]*) continue ;; esac
            address=${address#\[}
            address=${address%%%*}
            address=${address%\]}
            case $one in
            *'users:(("'*)
                program=${one#*'users:(("'}
                line listen "$1" "$address" "$port" "${program%%\"*}"
                ;;
            *) line listen "$1" "$address" "$port" ;;
            esac
        done
        return
    fi
    # State 0A: a TCP socket that listens. 07: a UDP socket without a peer.
    for protocol in tcp udp; do
        state=0A
        [ $protocol = tcp ] || state=07
        shown=$(grep -hE " 0+:0+ $state " "/proc/net/$protocol" "/proc/net/${protocol}6" 2>/dev/null || :)
        while [ -n "$shown" ]; do
            one=${shown%%"$nl"*}
            shown=${shown#"$one"}
            shown=${shown#"$nl"}
            # shellcheck disable=SC2086 # words
            set -- $one
            hex=${2%:*}
            case $hex in
            ????????)
                address4 "$hex"
                address=$dotted
                ;;
            00000000000000000000000000000000) address=:: ;;
            *)
                address6 "$hex" swapped
                address=$colons
                ;;
            esac
            line listen $protocol "$address" $((0x${2##*:}))
        done
    done
}

# --- What may be in the way.

ufw() {
    enabled=
    [ -r /etc/ufw/ufw.conf ] || return 0
    while IFS= read -r text || [ -n "$text" ]; do
        case $text in ENABLED=[yY][eE][sS]) enabled=yes ;; ENABLED=*) enabled= ;; esac
    done </etc/ufw/ufw.conf
    [ -n "$enabled" ] || return 0
    line firewall ufw
    if [ -r /etc/default/ufw ]; then
        while IFS= read -r text || [ -n "$text" ]; do
            case $text in DEFAULT_INPUT_POLICY=*ACCEPT*) line allow default ;; esac
        done </etc/default/ufw
    fi
    # The rules themselves, not `ufw status`: that one starts a Python and shortens what it prints.
    for rules in /etc/ufw/user.rules /lib/ufw/user.rules; do
        [ -r $rules ] || continue
        shown=$(grep '^### tuple ### allow ' $rules || :)
        while [ -n "$shown" ]; do
            one=${shown%%"$nl"*}
            shown=${shown#"$one"}
            shown=${shown#"$nl"}
            set -f
            # shellcheck disable=SC2086 # words
            set -- ${one#'### tuple ### allow '}
            set +f
            # Protocol, port, destination, source port, source, and at the end the direction with its interface.
            case " $* " in *" in "* | *" in_"*) ;; *) continue ;; esac
            what=$2
            [ "$1" = any ] || what=$2/$1
            case $what:$5 in
            any:0.0.0.0/0) line allow default ;;
            any:*) line allow "$5" ;;
            *:0.0.0.0/0) line allow "$what" ;;
            *) line allow "$what from $5" ;;
            esac
        done
        break
    done
}
firewall_cmd() {
    [ "$firewalld" = active ] || return 0
    line firewall firewalld
    has firewall-cmd && shown=$(limited 10 firewall-cmd --list-all-zones 2>/dev/null) || return 0
    # Whatever belongs to no other zone is in the default one, which is listed as active only where it has an interface.
    default=public
    while IFS= read -r text || [ -n "$text" ]; do
        case $text in DefaultZone=?*) default=${text#*=} ;; esac
    done 2>/dev/null </etc/firewalld/firewalld.conf || :
    zone='' target=''
    while [ -n "$shown" ]; do
        one=${shown%%"$nl"*}
        shown=${shown#"$one"}
        shown=${shown#"$nl"}
        case $one in
        [" $tab"]* | '') ;;
        "$default" | *\(*active*\)*) zone=${one%% *} target='' ;;
        *) zone='' ;;
        esac
        [ -n "$zone" ] || continue
        value=${one#*: }
        case $one in
        *' target: '*) target=$value ;;
        *' sources: '*) if [ "$target" = ACCEPT ]; then
            for word in $value; do line allow "zone $zone $word"; done
        fi ;;
        *' interfaces: '*) if [ "$target" = ACCEPT ]; then
            for word in $value; do line allow "zone $zone interface $word"; done
        fi ;;
        *' services: '*) for word in $value; do line allow "service $word"; done ;;
        *' ports: '*) for word in $value; do line allow "$word"; done ;;
        "$tab"rule\ *) line allow "${one#"$tab"}" ;;
        esac
    done
}
others() {
    for found in kubeadm:/etc/kubernetes/admin.conf kubeadm:/etc/kubernetes/kubelet.conf \
        kubeadm:/var/lib/kubelet/kubeadm-flags.env rke2:/usr/local/bin/rke2 rke2:/var/lib/rancher/rke2/server \
        rke2:/var/lib/rancher/rke2/agent microk8s:/var/snap/microk8s microk8s:/snap/bin/microk8s \
        k0s:/var/lib/k0s minikube:/var/lib/minikube; do
        [ ! -e "${found#*:}" ] || line other_kubernetes "${found%%:*} (${found#*:})"
    done
}
selinux() {
    [ -r /sys/fs/selinux/enforce ] || return 0
    enforce=
    read -r enforce </sys/fs/selinux/enforce || :
    if [ "$enforce" != 1 ]; then
        line selinux permissive
        return
    fi
    line selinux enforcing
    for module in /var/lib/selinux/*/active/modules/*/k3s /etc/selinux/*/active/modules/*/k3s; do
        if [ -d "$module" ]; then
            line k3s_selinux 1
            return
        fi
    done
}

for interest; do
    case $interest in
    file:?* | stat:?* | unit:?* | version:?*) ;;
    *)
        echo "not an interest: $interest" >&2
        exit 64
        ;;
    esac
done
line xgenctl-probe 1
system
disks
cgroups
modules
clock
network
names
sockets
paths "$@"
units "$@"
ufw
firewall_cmd
others
selinux
versions "$@"
line end
