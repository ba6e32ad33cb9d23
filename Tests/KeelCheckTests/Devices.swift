import KeelCL
import KeelPrimitives

/// One context a device, shared by all suites: a program is compiled once, whoever needs it first.
@MainActor enum Devices {
  static let contexts: [ComputeContext] = {
    do {
      return try Device.all().map { try ComputeContext($0) }
    } catch {
      print("no device: \(error)")
      return []
    }
  }()
}
