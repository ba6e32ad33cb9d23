import Foundation
import Testing

@testable import KeelCL

@Suite struct DriverSettingsTests {
  private func affinity(
    _ allowed: String?, online: String? = "0-3", siblings: Bool = false, of count: Int = 4,
    _ environment: [String: String] = [:]
  ) -> String? {
    DriverSettings.settings(
      environment: environment, allowedCores: allowed, onlineCores: online, hasSiblings: siblings, coreCount: count
    )["POCL_AFFINITY"]
  }

  /// PoCL aborts where a thread may not use its core.
  @Test func threadsKeepToCoresWhereEachHasOne() {
    #expect(affinity("0-3") == "1")
    #expect(affinity("0-2") == nil && affinity("1-3") == nil && affinity("0-1,3") == nil && affinity(nil) == nil)
    #expect(affinity("0-3", online: "0,2") == nil && affinity("0-3", online: nil) == nil)
    #expect(affinity("0-3", siblings: true) == nil)
    #expect(affinity("0", online: "0", of: 1) == nil && affinity("0-2047", online: "0-2047", of: 2048) == nil)
  }

  @Test(arguments: [
    "POCL_MAX_PTHREAD_COUNT", "POCL_PTHREAD_MIN_THREADS", "POCL_CPU_MAX_CU_COUNT", "POCL_CPU_MIN_CU_COUNT",
    "POCL_MAX_COMPUTE_UNITS",
  ]) func otherNumbersOfThreadsAreLeftToTheSystem(_ variable: String) {
    #expect(affinity("0-3", [variable: "4"]) == "1")
    for count in ["1", "8", "0", " 4", ""] { #expect(affinity("0-3", [variable: count]) == nil) }
  }

  @Test func whatTheUserHasSetStays() {
    #expect(affinity("0-3", ["POCL_AFFINITY": "0"]) == nil)
    let set = DriverSettings.settings(
      environment: ["POCL_WORK_GROUP_SPECIALIZATION": "1"], allowedCores: nil, onlineCores: nil, hasSiblings: false,
      coreCount: 4)
    #expect(set.isEmpty)
  }

  @Test func whatWasSetIsSaid() throws {
    _ = try Device.all()
    // What the process was started with: `setenv` does not change it.
    let variables = try String(contentsOfFile: "/proc/self/environ", encoding: .utf8).split(separator: "\0")
    let name = "POCL_WORK_GROUP_SPECIALIZATION"
    #expect(DriverSettings.variables.contains(name) == !variables.contains { $0.hasPrefix(name + "=") })
    #expect(DriverSettings.variables.allSatisfy { ProcessInfo.processInfo.environment[$0] != nil })
  }
}
