# Copyright (c) The fleet.criu maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a processor's features a program can come to depend on."""

from __future__ import annotations

from typing import Iterable

# Names of /proc/cpuinfo for what only kernels and hypervisors use: power, time, interrupts, paging, virtual machines,
# monitoring, and remedies against flaws of processors. All others are taken to matter.
_FOR_KERNELS = """
acpi amd_dcm amd_ibpb_ret amd_lbr_v2 amd_ppin aperfmperf apic arat arch_capabilities arch_lbr arch_perfmon art
auto_pstate autoibrs avic bts cat_l2 cat_l3 cdp_l2 cdp_l3 cmp_legacy constant_tsc cpb cppc cpuid_fault cqm cqm_llc
cqm_mbm_local cqm_mbm_total cqm_occup_llc cr8_legacy dca decodeassists ds_cpl dtes64 dtherm dts epb ept ept_ad est
extapic extd_apicid flexpriority flush_l1d flushbyasid hfi hw_pstate hwp hwp_act_window hwp_epp hwp_notify
hwp_pkg_req hypervisor ibpb ibrs ibrs_enhanced ibs ida intel_ppin intel_pt invpcid lbrv mba mca mce md_clear mtrr
nodeid_msr nonstop_tsc nopl npt nrip_save osvw pae pat pausefilter pbe pcid pconfig pdcm pebs perfctr_core
perfctr_llc perfctr_nb perfmon_v2 pfthreshold pge pln proc_feedback pse pse36 pti pts rdt_a rep_good rrsba sdbg sev
sev_es sev_snp skinit smap smca sme smep smx split_lock_detect ss ssbd stibp succor svm svm_lock tm tm2 topoext
tpr_shadow tsc_adjust tsc_deadline_timer tsc_known_freq tsc_reliable tsc_scale umip v_spec_ctrl v_vmsave_vmload vgif
virt_ssbd vmcb_clean vme vmmcall vmx vnmi vpid vtpr wbnoinvd wdt x2apic x2avic xtopology xtpr
"""


def needed_by_programs(flags: Iterable[str]) -> list[str]:
    """Those of these names of /proc/cpuinfo that stand for something a program can use."""
    for_kernels = frozenset(_FOR_KERNELS.split())
    return [flag for flag in flags if flag not in for_kernels]
