import KeelCheck
import KeelPrimitives
import KeelRuntime
import Testing

/// Directional derivatives in double precision on the device, fused and unfused.
@Suite(.serialized) @MainActor struct GradientTests {
  @Test(arguments: GradientCases.all) func gradient(_ gradientCase: GradientCase) throws {
    #expect(!Devices.contexts.isEmpty, "no OpenCL device")
    for context in Devices.contexts {
      guard context.profile.hasFP64 else {
        print("skipped \(gradientCase): \(context.profile.name) has no double precision")
        continue
      }
      let result = try GradientCheck(context).run(gradientCase)
      #expect(!result.hasFailed, "\(result)")
    }
  }

  /// As their definitions say: the gradients of the structured operations without their kernels.
  @Test(arguments: GradientCases.all.filter { $0.label.hasPrefix("batchNorm") || $0.label.hasPrefix("softmax") })
  func unfusedGradient(_ gradientCase: GradientCase) throws {
    var options = Executable.Options()
    options.fuses = false
    for context in Devices.contexts where context.profile.hasFP64 {
      let result = try GradientCheck(context, options: options).run(gradientCase)
      #expect(!result.hasFailed, "\(result)")
    }
  }
}
