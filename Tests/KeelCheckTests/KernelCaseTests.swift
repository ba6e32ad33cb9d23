import KeelPrimitives
import Testing

@testable import KeelCheck

/// Every variant of every family on every device, on a few cases. All cases are for `keel check`, which an optimized
/// build runs in seconds.
@Suite(.serialized) @MainActor struct KernelCaseTests {
  private static var runners = Devices.contexts.map { CheckRunner($0) }

  @Test(arguments: KernelFamilies.variants.keys.sorted()) func family(_ family: String) throws {
    #expect(!Self.runners.isEmpty, "no OpenCL device")
    let plan = try CheckPlan(families: [family], isQuick: true)
    #expect(plan.caseCount > 0, "\(family) has no cases")
    for runner in Self.runners {
      let report = runner.check(plan) { event in
        if case .ends(let result) = event, case .skipped = result.verdict { print(result) }
      }
      for failure in report.failures { Issue.record("\(failure)") }
      for summary in report.variants where summary.runs == 0 {
        // Variants for one kind of device run only where there is one.
        print("not run, \(runner.context.profile.name) does not take it: \(family).\(summary.variant)")
        #expect(!runner.context.profile.isCPU)
      }
      print(
        "\(family): \(report.runs) runs of \(report.cases) cases on \(runner.context.profile.name); left out: "
          + "\(plan.caseCount - report.cases) cases, which take minutes in a build without optimization; "
          + "`keel check --kernels \(family)` runs them")
    }
  }

  @Test func sharesHaveEachVariantOnce() throws {
    func names(_ plan: CheckPlan) -> [String] {
      plan.parts.flatMap { part in part.variants.map { "\(part.family) \($0) \(part.cases.count)" } }
    }
    func runs(_ plan: CheckPlan) -> Int { plan.parts.reduce(0) { $0 + $1.variants.count * $1.cases.count } }
    let whole = try CheckPlan()
    for count in 1...4 {
      let shares = try (1...count).map { try CheckPlan(share: CheckPlan.Share($0, of: count)) }
      #expect(shares.flatMap(names).sorted() == names(whole).sorted())
      for share in shares { #expect(runs(share) * count * 10 >= runs(whole) * 9, "a share of \(count) is small") }
    }
    // Whoever has all variants of a case finds that none takes it; who has some of them does not know.
    #expect(try CheckPlan(share: CheckPlan.Share(1, of: 1)).hasAllVariants)
    #expect(try !CheckPlan(share: CheckPlan.Share(1, of: 2)).hasAllVariants)
    #expect(CheckPlan.Share(0, of: 2) == nil && CheckPlan.Share(3, of: 2) == nil && CheckPlan.Share(1, of: 17) == nil)
  }

  @Test func casesHaveNamesOfTheirOwn() {
    #expect(Set(KernelCases.all.map(\.family)) == Set(KernelFamilies.variants.keys))
    #expect(Set(KernelCases.all.map(\.description)).count == KernelCases.all.count, "two cases have one name")
  }
}
