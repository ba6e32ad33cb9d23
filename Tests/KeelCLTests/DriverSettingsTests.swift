import Testing

@testable import KeelCL

@Suite struct DriverSettingsTests {
  private func affinity(_ cores: String?, of count: Int, _ environment: [String: String] = [:]) -> String? {
    DriverSettings.settings(environment: environment, allowedCores: cores, coreCount: count)["POCL_AFFINITY"]
  }

  /// PoCL aborts where a thread may not use its core.
  @Test func threadsKeepToCoresWhereEachHasOne() {
    #expect(affinity("0-3", of: 4) == "1")
    #expect(affinity("0-2", of: 4) == nil && affinity("1-3", of: 4) == nil && affinity("0-1,3", of: 4) == nil)
    #expect(affinity("0", of: 1) == nil && affinity(nil, of: 4) == nil)
    #expect(affinity("0-3", of: 4, ["POCL_MAX_PTHREAD_COUNT": "4"]) == "1")
    #expect(affinity("0-3", of: 4, ["POCL_MAX_PTHREAD_COUNT": "1"]) == nil)
    #expect(affinity("0-3", of: 4, ["POCL_MAX_PTHREAD_COUNT": "8"]) == nil)
  }

  @Test func whatTheUserHasSetStays() {
    #expect(affinity("0-3", of: 4, ["POCL_AFFINITY": "0"]) == nil)
    let set = DriverSettings.settings(
      environment: ["POCL_WORK_GROUP_SPECIALIZATION": "1"], allowedCores: nil, coreCount: 4)
    #expect(set.isEmpty)
  }
}
