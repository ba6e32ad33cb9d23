import KeelCheck
import KeelCore
import KeelPrimitives
import Testing

/// Every case on every device with every variant of its family that takes it, in single and double precision.
@Suite(.serialized) @MainActor struct KernelCaseTests {
  @Test(arguments: KernelCases.of(GemmProblem.family)) func gemm(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(BatchNormForwardProblem.family))
  func batchNormForward(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(BatchNormBackwardProblem.family))
  func batchNormBackward(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(BatchNormRunningProblem.family))
  func batchNormRunningUpdate(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(ElementwiseProblem.family))
  func elementwise(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(ReductionProblem.family)) func reduce(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(SoftmaxProblem.family)) func softmax(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(GatherProblem.family)) func gather(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(TransposeProblem.family))
  func transpose(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(RecordProblem.family)) func record(_ kernelCase: KernelCase) { check(kernelCase) }

  @Test(arguments: KernelCases.of(OptimizerProblem.family))
  func optimizer(_ kernelCase: KernelCase) { check(kernelCase) }

  private static var runners = Devices.contexts.map { CheckRunner($0) }
  private static var worst: [String: CheckResult] = [:]
  private static var seen: Set<String> = []
  private static var counts = (cases: 0, runs: 0)

  private func check(_ kernelCase: KernelCase) {
    #expect(!Self.runners.isEmpty, "no OpenCL device")
    Self.counts.cases += 1
    for runner in Self.runners {
      for result in runner.check(kernelCase) {
        Self.counts.runs += 1
        #expect(!result.hasFailed, "\(result)")
        if case .skipped = result.verdict { print(result) }
        Self.seen.insert("\(result.family).\(result.variant)")
        let key = "\(result.family) \(kernelCase.dtype)"
        if let worst = result.worst, worst.bound > 0,
          Self.worst[key]?.worst.map({ $0.error / $0.bound < worst.error / worst.bound }) ?? true
        {
          Self.worst[key] = result
        }
      }
    }
  }

  /// Runs last: the suite is serialized. Every family has cases, and every variant of each was run by some device.
  @Test func zzCoverage() {
    let families = Set(KernelCases.all.map(\.family))
    #expect(families == Set(KernelFamilies.variants.keys))
    #expect(Set(KernelCases.all.map(\.description)).count == KernelCases.all.count, "two cases have one name")
    for (family, variants) in KernelFamilies.variants {
      for variant in variants where Self.counts.cases == KernelCases.all.count {
        let isRun = Self.seen.contains("\(family).\(variant)")
        // Variants for one kind of device run only where there is one.
        if !isRun { print("not run, no device takes it: \(family).\(variant)") }
        #expect(isRun || !Devices.contexts.contains { $0.profile.isCPU })
      }
    }
    print("\(Self.counts.cases) cases, \(Self.counts.runs) runs; nearest to the bound:")
    for (_, result) in Self.worst.sorted(by: { $0.key < $1.key }) { print("  \(result)") }
  }
}
